"""`revinst plan`: what it predicts, held to what was measured; it needs no weights, no GPU and no Trainer."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from revinst import cli
from revinst.config.settings import LoraSettings
from revinst.model.build import build_empty
from revinst.model.memory import checkpoint_gib, predict_memory, shape_of
from revinst.planning.plan import list_warnings
from revinst.training.lines import StepsBar

LLAMA_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
}
ALL, QV = LoraSettings(), LoraSettings(target_modules=["q_proj", "v_proj"])
SMALL = LoraSettings(r=16, alpha=32, dropout=0.0)


def run_plan(capsys, *args: object) -> dict:
    with pytest.raises(SystemExit) as ended:
        cli.main(["plan", *(str(arg) for arg in args), "--json"])
    assert ended.value.code == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def llama_7b(base, tmp_path_factory) -> Path:
    """Llama 2 7B's config with the quickstart model's tokenizer; no weights."""
    folder = tmp_path_factory.mktemp("llama-7b")
    (folder / "config.json").write_text(json.dumps(LLAMA_7B))
    for path in Path(base).glob("*token*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("name", "lora", "tokens", "recomputed", "peak"),
    [
        ("7b", ALL, 6 * 2048, 32, 10.82),
        ("7b", QV, 6 * 2048, 32, 9.29),
        ("135m", ALL, 8 * 2048, 0, 16.1),
    ],
)
def test_plain_peak_on_the_h200(base, llama_7b, name, lora, tokens, recomputed, peak):  # noqa: PLR0917
    """Within 10 % of dev/LOG.md's figures."""
    shape = shape_of(build_empty(str(llama_7b if name == "7b" else base), lora))
    memory = predict_memory(shape, tokens=tokens, targets=tokens, recomputed=recomputed, dropout=True)
    assert memory.peak == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize(
    ("dropout", "recomputed", "peak"), [(False, 0, 40.66), (True, 0, 40.75), (False, 32, 6.81), (True, 32, 7.06)]
)
def test_fused_peak_on_the_h200(llama_7b, dropout, recomputed, peak):
    """Within 10 % of dev/LOG.md's figures, taken without an optimizer."""
    lora = LoraSettings(dropout=0.1 * dropout)
    shape = shape_of(build_empty(str(llama_7b), lora))
    tokens = 6 * 2048
    memory = predict_memory(shape, tokens=tokens, targets=tokens, recomputed=recomputed, dropout=dropout, fused=True)
    assert memory.peak == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize(
    ("lora", "tokens", "recomputed", "dropout", "peak"),
    [
        (SMALL, 2048, 0, False, 3.45),
        (SMALL, 2048, 30, False, 1.40),
        (SMALL, 8192, 30, False, 2.99),
        (LoraSettings(), 4096, 0, True, 8.63),
    ],
)
def test_peak_on_the_cpu(base, lora, tokens, recomputed, dropout, peak):
    """Within 20 % of what `--measure` gave (dev/LOG.md)."""
    memory = predict_memory(
        shape_of(build_empty(base, lora)),
        tokens=tokens,
        targets=round(0.13 * tokens),
        recomputed=recomputed,
        dropout=dropout,
        on_gpu=False,
    )
    assert memory.peak == pytest.approx(peak, rel=0.2)


def test_checkpoints_of_the_7b(llama_7b):
    shape = shape_of(build_empty(str(llama_7b), ALL))
    assert shape.adapter_parameters == 159_907_840
    assert checkpoint_gib(shape, "paged_adamw_32bit") * 2**30 < 2.2e9 and 4 * shape.adapter_parameters < 0.7e9


@pytest.mark.parametrize(("precision", "recomputed"), [("bf16-mixed", 0), ("32-true", 2)])
def test_plan_of_the_quickstart(capsys, base, precision, recomputed):
    """In the 3 GiB of activations that its config gives; those of fp32 are larger."""
    args = ("configs/quickstart.yaml", "--model.base", base, "--device", "cpu", "--memory_gib", 16)
    plan = run_plan(capsys, *args, "--trainer.precision", precision)
    assert plan["steps"] == 24 > plan["steps_per_epoch"] > 10 and plan["fits"] and plan["hours"] > 0
    assert plan["tokens"] > plan["supervised_tokens"] > 5000
    assert plan["recomputed_layers"] == [recomputed, 30]


def test_eight_gpus_on_a_laptop(capsys, llama_7b):
    args = ("configs/llama2-7b.yaml", "--model.base", llama_7b, "--data.source", "quickstart", "--device", "cuda")
    one = run_plan(capsys, *args, "--memory_gib", 16)
    eight = run_plan(capsys, *args, "--memory_gib", 16, "--trainer.devices", 8)
    assert eight["devices"] == 8 and eight["steps"] == one["steps"] > 3  # the recipe is the same on any number
    assert (one["micro_batch_size"], eight["micro_batch_size"]) == (8, 1)
    assert eight["tokens_per_s"] == pytest.approx(8 * one["tokens_per_s"], rel=0.01)
    assert one["fits"] and one["memory_gib"]["peak"] < 16


def test_sharding_divides_the_layers(base, llama_7b):
    """Packed weights, adapter and optimizer state by the ranks; statistics, embeddings and head not."""
    shape = shape_of(build_empty(str(llama_7b), ALL))
    options = {"tokens": 2048, "targets": 512, "recomputed": 32, "dropout": True, "optimizer": "adamw"}
    one = predict_memory(shape, **options)
    ddp, fsdp = predict_memory(shape, ranks=8, **options), predict_memory(shape, ranks=8, sharded=True, **options)
    assert ddp.base == one.base and ddp.optimizer == one.optimizer and ddp.gradients == 2 * one.gradients
    assert fsdp.optimizer == one.optimizer / 8 and fsdp.adapter == one.adapter / 8
    packed, layer = 0.5 * shape.linear_parameters / 2**30, shape.layers
    gathered = 4 * (packed + one.adapter) / layer
    assert fsdp.base == pytest.approx(one.base - packed * 7 / 8 + gathered)
    assert predict_memory(shape, ranks=8, sharded=True, accumulates=True, **options).gradients == one.gradients


def test_plan_of_a_sharded_config(capsys, llama_7b):
    """It says which cards can also hold the whole base once."""
    args = ("configs/llama2-70b-fsdp.yaml", "--model.base", llama_7b, "--data.source", "quickstart", "--device", "cuda")
    plan = run_plan(capsys, *args)
    assert plan["sharded"] and plan["devices"] == 8 and plan["fits_gpus_of_gb"] == [8, 12, 16, 24, 48, 80, 141]
    assert plan["memory_gib"]["base"] < plan["load_gib"] < 4


@pytest.mark.parametrize(
    ("base_gemm", "memory", "available", "copies"),
    [("fp8", "auto", 140, 2), ("fp8_backward", "auto", 140, 1), ("fp8", "auto", 12, 0), ("fp8", 0, 140, 0)],
)
def test_weights_in_8_bits_are_counted_where_they_are_kept(capsys, llama_7b, base_gemm, memory, available, copies):
    args = ("configs/llama2-7b.yaml", "--model.base", llama_7b, "--data.source", "quickstart", "--device", "cuda")
    args += ("--data.micro_batch_size", 1, "--model.activation_memory_gib", memory, "--memory_gib", available)
    plan, plain = (run_plan(capsys, *args, "--model.base_gemm", kind) for kind in (base_gemm, "bf16"))
    assert plan["fits"] and plan["memory_gib"]["needed"] <= available
    linear = shape_of(build_empty(str(llama_7b), ALL)).linear_parameters
    more = plan["memory_gib"]["base"] - plain["memory_gib"]["base"]
    assert more == pytest.approx(copies * linear / 2**30, abs=2e-3) and linear > 6e9


@pytest.mark.parametrize(
    ("available", "says"),
    [
        (12, "model.activation_memory_gib: 0 (every"),
        (6.5, "data.micro_batch_size: auto"),
        (3, "smaller"),
    ],
)
def test_what_to_change_first(capsys, llama_7b, available, says):
    args = ("configs/llama2-7b.yaml", "--model.base", llama_7b, "--data.source", "quickstart", "--device", "cuda")
    fixed = ("--data.micro_batch_size", 8, "--model.activation_memory_gib", 30)
    plan = run_plan(capsys, *args, *fixed, "--memory_gib", available)
    assert (not plan["fits"] and plan["change_first"].startswith(says)) or says in plan["change_first"]


@pytest.mark.parametrize(("available", "rows", "peak"), [(7.4, 4, 6.27), (11.0, 8, 7.62), (73.6, 8, 7.62)])
def test_as_many_rows_as_fit(capsys, llama_7b, available, rows, peak):
    """The recipe's 8 rows a step on cards of 8, 12 and 80 GB less what the driver takes; peaks as measured on an H200
    with its memory capped (docs/speed.md).
    """
    args = ("configs/llama2-7b.yaml", "--model.base", llama_7b, "--data.source", "quickstart", "--device", "cuda")
    plan = run_plan(capsys, *args, "--memory_gib", available)
    assert plan["fits"] and plan["micro_batch_size"] == rows
    assert plan["memory_gib"]["needed"] <= available and plan["memory_gib"]["peak"] == pytest.approx(peak, rel=0.1)


def test_measured_beside_the_plan(capsys, tiny_llama):
    args = (
        "configs/quickstart.yaml",
        "--model.base",
        tiny_llama,
        "--data.seq_len",
        256,
        "--trainer.accelerator",
        "cpu",
    )
    plan = run_plan(capsys, *args, "--measure")
    assert plan["measured"]["step_tokens"] > 200 and plan["measured"]["tokens_per_s"] > 0


@pytest.mark.parametrize("bad", [["--device", "tpu"], ["--memory_gib", "lots"], ["--data.sorce", "x"]])
def test_bad_options(capsys, bad):
    with pytest.raises(SystemExit) as ended:
        cli.main(["plan", "configs/quickstart.yaml", *bad])
    captured = capsys.readouterr()
    assert ended.value.code == 2 and bad[0].lstrip("-").split(".")[-1] in captured.err and not captured.out


def test_a_cpu_is_as_fast_as_its_products(capsys, base, monkeypatch):
    """In the dtype that is computed in: where bf16 is emulated it takes longer, although the memory is less."""
    speeds = {torch.bfloat16: 0.02, torch.float32: 0.17}
    monkeypatch.setattr("revinst.planning.speed.cpu_tflop_per_s", lambda: speeds)
    args = ("configs/quickstart.yaml", "--model.base", base, "--device", "cpu", "--memory_gib", 16)
    slow, quick = (run_plan(capsys, *args, "--trainer.precision", name) for name in ("bf16-mixed", "32-true"))
    assert slow["memory_gib"]["activations"] < quick["memory_gib"]["activations"]
    assert slow["tokens_per_s"] < 0.4 * quick["tokens_per_s"] and slow["seconds"] > 2.5 * quick["seconds"]
    speeds[torch.bfloat16] = 0.44
    native = run_plan(capsys, *args, "--trainer.precision", "bf16-mixed")
    assert native["seconds"] * 1.35 == pytest.approx(quick["seconds"], rel=0.1)


def test_hours_are_warned_of():
    plan = {"seconds": 300, "device": "cpu", "fits": True, "device_memory_gib": 8, "change_first": "x"}
    assert list_warnings(plan) == [] == list_warnings(plan | {"seconds": None})
    (line,) = list_warnings(plan | {"seconds": 11_100})
    assert line.startswith("takes about 3 h 5 min; a GPU, ")
    assert "more GPUs" in list_warnings(plan | {"seconds": 11_100, "device": "cuda"})[0]
    assert list_warnings(plan | {"fits": False}) == ["does not fit in 8 GiB; change first: x"]


@pytest.mark.parametrize(
    ("max_steps", "step", "completed", "total"),
    [(-1, 0, 0, 20), (5, 0, 0, 5), (50, 40, 20, 10), (25, 13, 13, 20), (16, 13, 13, 16)],
)
def test_the_bar_ends_where_the_run_does(max_steps, step, completed, total):
    """step: of the run when the epoch begins, or when a resumed one goes on after `completed` batches of it."""
    bar, current = StepsBar(), SimpleNamespace(completed=completed)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=current)))
    bar._trainer = SimpleNamespace(
        max_steps=max_steps, num_training_batches=20, fit_loop=loop, lightning_module=SimpleNamespace(step=step)
    )
    assert bar.total_train_batches == total
