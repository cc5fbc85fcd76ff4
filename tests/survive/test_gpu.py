"""Property 5 on a GPU, with `trainer.deterministic`: two runs of one config are bit-equal, and one that was killed with
SIGKILL three times and resumed is bit-equal to both. For each attention backend, kernels fused and plain, and each
optimizer: pytest -n 0 -m gpu tests/survive/test_gpu.py.
"""

import json
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from tests.survive.faults import assert_equal, count_lost, fit_command, run_process, state_of
from tests.tiny import write_tiny_llama

pytestmark = pytest.mark.gpu
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "llama2-7b.yaml"
KILLED = -9
AT_ONCE = 8  # fits; each takes 3 GiB of the GPU at most, and most of its time is its start, on one CPU core
STEPS = 40
ROWS = {"data.micro_batch_size": 2, "data.rows_per_step": 4}
SETTINGS = ROWS | {
    "data.seq_len": 1024,
    "data.val_fraction": 0.1,
    "trainer.accelerator": "cuda",
    "trainer.deterministic": "true",
    "trainer.max_steps": STEPS,
    "trainer.max_epochs": -1,
    "trainer.log_every_n_steps": 1,
    "trainer.enable_progress_bar": "false",
    "trainer.logger": "false",
    "checkpoint.every_steps": 7,
    "checkpoint.keep_last": 2,
    "checkpoint.keep_best": 0,
    "samples.every_steps": 0,
}
LLAMA = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
# Counted in each process anew: step 10 of the first, going on from 7; the checkpoint of step 21 of the second, which
# then goes on from 14; the middle of a step after 21 of the third.
MOMENTS = ("finish_step:9", "save_checkpoint:1", "micro_batch_loss:21")
Variant = tuple[str, str, str]  # attention, kernels, optimizer
VARIANTS: list[Variant] = [
    *product(("sdpa", "varlen", "flash"), ("fused", "plain"), ("paged_adamw_32bit",)),
    ("auto", "auto", "paged_adamw_8bit"),
    ("auto", "auto", "adamw"),
]


def write_long_rows(path: Path) -> None:
    """Quickstart responses, one to twelve joined: documents of one block of attention's keys and of many."""
    from revinst.data.example_table import load_examples

    rng, examples, rows = random.Random(0), load_examples("quickstart")[0], []
    while examples:
        number = rng.randint(1, 12)
        text = "\n".join(example.response for example in examples[:number])
        rows.append({"instruction": examples[0].instruction, "response": text})
        examples = examples[number:]
    words = [len(row["response"].split()) for row in rows]
    assert len(rows) > 50 and min(words) < 50 and sum(number > 300 for number in words) > 10
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def fit(folder: Path, name: str, moments: tuple[str, ...] = (), **options: object) -> dict[str, Any]:
    """State of a run's end. moments: each process but the last is killed at one of them."""
    here = {"config": CONFIG, "run_name": name, "runs_dir": folder, "model.base": folder / "base"}
    args = fit_command(here | {"data.source": folder / "rows.jsonl"} | SETTINGS | options)
    log = folder / f"{name}.log"
    for moment in (*moments, ""):
        code, _ = run_process(args, log, "SIGKILL" if moment else "", moment or -1, method="spawn")
        assert code == (KILLED if moment else 0), log.read_text()[-3000:]
    state = state_of(folder / name)
    assert len(state["rows"]) == state["manifest"]["steps"] == int(str(options.get("trainer.max_steps", STEPS)))
    assert all(tensor.any() for tensor in load(state["adapter"]).values()), "every adapter has moved"
    shutil.rmtree(folder / name)
    return state


def model_options(variant: Variant) -> dict[str, object]:
    return dict(zip(("model.attention", "model.kernels", "model.optimizer"), variant, strict=True))


def skip_without(attention: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    if attention == "flash" and find_spec("flash_attn") is None:
        pytest.skip("flash-attn is not installed")


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield pool
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def inputs(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    write_long_rows(folder / "rows.jsonl")
    write_tiny_llama(folder / "base", Path(base), torch.bfloat16, **LLAMA)
    return folder


@pytest.fixture(scope="module")
def fits(request, pool, inputs) -> dict[Variant, list[Future]]:
    """Of each variant that is asked for: two undisturbed runs and the killed one. All are started, so that the tests'
    waiting is shared.
    """
    asked = {item.callspec.params.get("variant") for item in request.session.items if hasattr(item, "callspec")}
    started = {}
    for variant in VARIANTS:
        if variant in asked and not (variant[0] == "flash" and find_spec("flash_attn") is None):
            name, options = "-".join(variant), model_options(variant)
            started[variant] = [
                pool.submit(fit, inputs, f"{name}-killed", MOMENTS, **options),
                pool.submit(fit, inputs, f"{name}-whole", **options),
                pool.submit(fit, inputs, f"{name}-again", **options),
            ]
    return started


@pytest.mark.timeout(900)
@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_killed_on_a_gpu(variant, request, inputs, fault):
    skip_without(variant[0])
    killed, whole, again = (future.result() for future in request.getfixturevalue("fits").pop(variant))
    backend = "" if variant[0] == "auto" else f"attention: {variant[0]}: asked for"
    assert backend in (inputs / f"{'-'.join(variant)}-whole.log").read_text()
    assert_equal(again, whole)
    with fault("SIGKILL on a GPU") as counts:
        counts["injected"] += len(MOMENTS)
        counts["bytes_lost"] += count_lost(killed, whole)
        assert_equal(killed, whole)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kernels", ["fused", "plain"])
def test_what_is_recomputed_changes_no_bit(kernels, request):
    """`activation_memory_gib: auto` goes by the memory that is free, which a resumed run may find another."""
    skip_without("auto")
    pool, inputs = request.getfixturevalue("pool"), request.getfixturevalue("inputs")
    options = {"model.kernels": kernels, "trainer.max_steps": 10}
    budgets = (0, 0.25, 64)  # GiB: all layers are recomputed, some, none
    started = [
        pool.submit(fit, inputs, f"{kernels}-{gib}", **options | {"model.activation_memory_gib": gib})
        for gib in budgets
    ]
    states = [future.result() for future in started]
    said = [(inputs / f"{kernels}-{gib}.log").read_text() for gib in budgets]
    shares = [text.split("recompute: ")[1][:6] for text in said]
    assert shares[0] == "8 of 8" and shares[1] not in (shares[0], shares[2]) and shares[2] == "0 of 8"
    for state in states[1:]:
        assert state["adapter"] == states[0]["adapter"]


@pytest.fixture
def deterministic(monkeypatch) -> Iterator[None]:
    """As the Trainer sets it."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("backend", ["flash", "varlen", "sdpa", "eager"])
@pytest.mark.parametrize("seq_lens", [[1024, 300, 37, 687], [1024, 1024]], ids=["packed", "full"])
def test_backward_is_the_same_bits(deterministic, backend, seq_lens):
    """Prints how often it is not, where nothing asks it to be."""
    skip_without(backend)
    from revinst.model.attention import BACKENDS

    torch.manual_seed(0)
    shapes = [(sum(seq_lens), heads, 128) for heads in (8, 4, 4)]
    inputs = [torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for shape in shapes]
    ends = torch.tensor([0, *seq_lens], device="cuda").cumsum(0).int()
    out_grad = torch.randn(shapes[0], device="cuda", dtype=torch.bfloat16)

    def gradients() -> list[torch.Tensor]:
        out = BACKENDS[backend].packed(*inputs, 128**-0.5, ends, seq_lens)
        return [out.detach(), *torch.autograd.grad(out, inputs, out_grad)]

    first = gradients()
    assert all(tensor.isfinite().all() and tensor.any() for tensor in first)
    for _ in range(20):
        assert all(map(torch.equal, gradients(), first))
    torch.use_deterministic_algorithms(False)
    first = gradients()
    others = sum(not all(map(torch.equal, gradients(), first)) for _ in range(20))
    print(f"{backend}, documents of {seq_lens}: {others} of 20 backwards differ where they may")
