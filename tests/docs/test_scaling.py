"""docs/scaling.md holds what scripts/scaling.py computes, and that counts the bytes of the real adapter."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.commands.test_plan import LLAMA_7B, run_plan

SEVENTY = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64}
LLAMA_70B = LLAMA_7B | SEVENTY | {"num_key_value_heads": 8}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scaling():
    spec = importlib.util.spec_from_file_location("scaling", ROOT / "scripts" / "scaling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_computed(scaling):
    text = (ROOT / "docs" / "scaling.md").read_text()
    for lines in (scaling.render_traffic(), scaling.render_efficiency()):
        assert len(lines) == 6 and "\n".join(lines) in text
    assert f"{scaling.TOKENS_PER_S:,} tokens/s" in text


def test_counts(scaling):
    """Llama 2 7B's: 159,907,840 adapter weights, as tests/commands/test_plan.py has them."""
    assert scaling.SEVEN.adapter == 159_907_840 and scaling.SEVEN.linear == 6_476_005_376
    assert scaling.ddp_traffic(scaling.SEVEN).reduced == 2 * 4 * 159_907_840


def test_efficiency_falls_with_less_network_and_more_machines(scaling):
    worst = [scaling.efficiency(scaling.SEVEN, "fsdp2", 64, rate)[0] for rate in (100, 200, 400, 3200)]
    assert worst == sorted(worst) and worst[0] < 0.6 and 0.85 < worst[-1] < 0.9
    assert scaling.efficiency(scaling.SEVEN, "ddp", 512, 100)[0] < scaling.efficiency(scaling.SEVEN, "ddp", 64, 100)[0]
    # Two GPUs as measured: DDP 0.991, FSDP2 0.936 (docs/scaling.md)
    lean = replace(scaling.SEVEN, step_s=1.602)
    for strategy, measured in (("ddp", 0.991), ("fsdp2", 0.936)):
        low, high = scaling.efficiency(lean, strategy, 2, 100)
        assert low - 0.005 < measured < high + 0.005 and high - low < 0.02
    # 1.28 GB over 8 GPUs: 7/8 of it at 0.8 x 450 GB/s
    assert scaling.transfer_s(1.28e9, 8, 100) == pytest.approx(1.28e9 * 7 / 8 / 360e9)


@pytest.mark.wide
@pytest.mark.parametrize(("config", "shape"), [("llama2-7b-ddp", LLAMA_7B), ("llama2-70b-fsdp", LLAMA_70B)])
def test_memory_is_the_plans(capsys, base, dolly, tmp_path, config, shape):
    """For 8 and 64 GPUs; with the quickstart model's tokenizer, which changes what micro-batches hold by a little."""
    (tmp_path / "config.json").write_text(json.dumps(shape))
    for path in Path(base).glob("*token*"):
        shutil.copy(path, tmp_path)
    lines = (ROOT / "docs" / "scaling.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith(f"| {config} ")]
    assert [row[1] for row in rows] == ["8", "64"]
    options = ("--model.base", tmp_path, "--data.source", dolly, "--device", "cuda")
    for row, nodes in zip(rows, (1, 8), strict=True):
        more = ("--trainer.num_nodes", nodes, "--data.rows_per_step", 8 * nodes)
        plan = run_plan(capsys, ROOT / "configs" / f"{config}.yaml", *options, *more)
        memory = plan["memory_gib"]
        states = memory["adapter"] + memory["gradients"] + memory["optimizer"]
        work = memory["activations"] + memory["logits"]
        expected = [memory["base"], states, work, memory["needed"], plan["load_gib"]]
        assert [float(cell) for cell in row[2:7]] == pytest.approx(expected, abs=0.051)
        assert row[7] == ", ".join(map(str, plan["fits_gpus_of_gb"])) + " GB"
