"""docs/scaling.md holds what scripts/scaling.py computes, and that counts the bytes of the real adapter."""

import importlib.util
from pathlib import Path

import pytest

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
    assert worst == sorted(worst) and worst[0] < 0.6 and 0.9 < worst[-1] < 1
    assert scaling.efficiency(scaling.SEVEN, "ddp", 512, 100)[0] < scaling.efficiency(scaling.SEVEN, "ddp", 64, 100)[0]
    # 1.28 GB over 8 GPUs: 7/8 of it at 0.8 x 450 GB/s
    assert scaling.transfer_s(1.28e9, 8, 100) == pytest.approx(1.28e9 * 7 / 8 / 360e9)
