"""Two ranks over gloo train as one process does: DDP, and FSDP2 with its packed 4-bit weights in shares.

Every run takes the same steps: 8 rows each from 17, so that the third has one row, and none for the second rank.
"""

import inspect
import json
import os
import re
import textwrap
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch.distributed.fsdp._fully_shard import _fsdp_param

from revinst.model import sharding
from tests.invariants.rank_steps import train
from tests.invariants.two_ranks import run_ranks

SCRIPT = Path(__file__).with_name("rank_steps.py")
STEPS = {"steps": 3, "rows": 17, "quantization": "nf4", "max_grad_norm": 0.1}
FOUR = STEPS | {"size": 4}
TWO_BY_TWO = STEPS | {"size": 2}
FSDP2 = {"strategy": "fsdp2"}
RUNS = {
    "ddp 2x4": FOUR | {"validate": True, "besides": True},
    "ddp 2x2x2": TWO_BY_TWO | {"save": "ddp.ckpt", "steps": 2},
    "fsdp2 2x4": FOUR | FSDP2 | {"validate": True, "samples": True, "besides": True},
    "fsdp2 2x2x2": TWO_BY_TWO | FSDP2,
    "fsdp2 fused": TWO_BY_TWO | FSDP2 | {"kernels": "fused", "samples": True},
    "fsdp2 fp8": TWO_BY_TWO | FSDP2 | {"kernels": "fused", "base_gemm": "fp8_backward"},
    "fsdp2 stopped": TWO_BY_TWO | FSDP2 | {"save": "fsdp2.ckpt", "steps": 2},
    "fsdp2 resumed": TWO_BY_TWO | FSDP2 | {"resume": "fsdp2.ckpt"},
    "ddp to fsdp2": TWO_BY_TWO | FSDP2 | {"resume": "ddp.ckpt"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def one(tiny_llama, folder) -> dict:
    """One process, 8 rows a step in one micro-batch."""
    seen = train(tiny_llama, folder, STEPS | {"size": 8, "validate": True, "samples": True})
    assert [len(ids) > 7 for ids in seen["ids"]] == [True, True, False] and len(seen["end"]) == 14
    assert all(norm > 0.15 for norm in seen["norms"]), "clipping must change something"
    return seen


@pytest.fixture(scope="module")
def one_fp8(tiny_llama, folder) -> dict:
    return train(tiny_llama, folder, STEPS | {"size": 8, "kernels": "fused", "base_gemm": "fp8_backward"})


@pytest.fixture(scope="module")
def two(tiny_llama, folder) -> dict[str, dict]:
    run_ranks(SCRIPT, tiny_llama, folder / "two.pt", json.dumps(list(RUNS.values())))
    return dict(zip(RUNS, torch.load(folder / "two.pt", weights_only=True), strict=True))


def distance(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Relative, over all tensors together."""
    assert got.keys() == expected.keys() and len(expected) == 2 * 7 * 2
    flat = [torch.cat([tensors[name].flatten() for name in expected]) for tensors in (got, expected)]
    assert flat[1].norm() > 1e-3
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


def assert_same_steps(got: dict, expected: dict, first: int = 0) -> None:
    """Of the steps from `first` on: rows, targets, loss, gradient, norm; and the adapter at the end."""
    assert got["step"] == expected["step"] == 3 and len(got["losses"]) == 3 - first
    assert got["ids"] == expected["ids"][first:] and got["targets"] == expected["targets"][first:]
    assert got["losses"] == pytest.approx(expected["losses"][first:], rel=1e-5)
    assert got["norms"] == pytest.approx(expected["norms"][first:], rel=1e-5)
    for gradient, other in zip(got["gradients"], expected["gradients"][first:], strict=True):
        assert distance(gradient, other) < 1e-5
    assert distance(got["adapter"], expected["adapter"]) < 1e-5


@pytest.mark.parametrize("name", ["ddp 2x4", "fsdp2 2x4"])
def test_what_the_loss_hands_to_the_log_is_of_all_ranks(one, two, name):
    """Divided as the loss is; in the last step the second rank has no targets. The steps themselves stay the same."""
    seen = two[name]
    assert len(seen["doubles"]) == 3 and one["doubles"] == []
    for (double, count), loss in zip(seen["doubles"], one["losses"], strict=True):
        assert double == pytest.approx(2 * loss, rel=1e-5) and count == 1
    assert seen["val_besides"] == pytest.approx([2 * one["val_loss"], 1], rel=1e-5)


@pytest.mark.parametrize("name", ["ddp 2x4", "fsdp2 2x4", "fsdp2 2x2x2", "fsdp2 fused"])
def test_same_steps_as_one_process(one, two, name):
    assert_same_steps(two[name], one)


def test_products_in_8_bits_over_shares(one, one_fp8, two):
    """The steps of one process, to what another order of sums changes before e4m3 rounds; and not those in 16 bits."""
    got = two["fsdp2 fp8"]
    assert got["losses"] == pytest.approx(one_fp8["losses"], rel=1e-4)
    for gradient, other, exact in zip(*(seen["gradients"] for seen in (got, one_fp8, one)), strict=True):
        assert distance(gradient, other) < 5e-3 and distance(other, exact) > 2e-2


def test_accumulated_ddp(one, two):
    """Its first two steps; the third is taken by a run that goes on from here."""
    got = two["ddp 2x2x2"]
    assert got["step"] == 2 and got["ids"] == one["ids"][:2]
    assert all(distance(*pair) < 1e-5 for pair in zip(got["gradients"], one["gradients"][:2], strict=True))


@pytest.mark.parametrize("name", ["ddp 2x4", "fsdp2 2x4"])
def test_val_loss_is_exact_over_ranks(one, two, name):
    assert two[name]["val_loss"] == pytest.approx(one["val_loss"], rel=1e-6) and one["val_loss"] > 5


@pytest.mark.parametrize("name", ["fsdp2 2x4", "fsdp2 fused"])
def test_samples_of_a_sharded_model(one, two, name):
    """All ranks write them together; and the steps go on as without (test_same_steps_as_one_process)."""
    assert two[name]["samples"] == one["samples"] and len(one["samples"]) == 3
    assert {number for number, _ in one["samples"][0]} == {0, 1, 2}
    assert one["samples"][0] != one["samples"][2], "the adapter must show"


@pytest.mark.parametrize("name", ["fsdp2 resumed", "ddp to fsdp2"])
def test_goes_on_sharded(one, two, name):
    assert_same_steps(two[name], one, first=2)


@pytest.mark.parametrize("checkpoint", ["fsdp2.ckpt", "ddp.ckpt"])
def test_goes_on_with_one_rank(one, two, tiny_llama, folder, checkpoint):
    """A checkpoint of two ranks, sharded or not, holds whole tensors."""
    got = train(tiny_llama, folder, STEPS | {"size": 8, "resume": checkpoint})
    assert_same_steps(got, one, first=2)


@pytest.mark.parametrize("name", RUNS)
def test_packed_weights_keep_their_bytes(one, two, name):
    got = two[name]
    assert got["before"] == got["after"] == got["end"] == one["before"] and len(got["end"]) == 14


def test_a_rank_holds_half_of_the_layers(two, one):
    """Packed weights, adapter and optimizer state; norms, embeddings and head are whole."""
    whole, share = one["local"], two["fsdp2 2x4"]["local"]
    adapter = 2 * 4 * 4 * (2 * 128 + 2 * 96 + 3 * 192)
    layers = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128) // 2 + adapter
    assert whole - share == layers // 2 and two["ddp 2x4"]["local"] == whole
    assert one["moments"] == two["ddp 2x4"]["moments"] == 2 * adapter == 2 * two["fsdp2 2x4"]["moments"]


def test_gradients_cross_ranks_once_a_step(two):
    """DDP's after the last micro-batch, FSDP2's in it, of steps in which both ranks have rows."""
    assert two["ddp 2x2x2"]["crossed"] == [False, False] * 2 and two["ddp 2x2x2"]["whole"] == [True] * 2
    assert two["fsdp2 2x2x2"]["crossed"][:4] == two["fsdp2 fused"]["crossed"][:4] == [False, True] * 2
    assert two["ddp 2x4"]["crossed"][:2] == [False] * 2 and two["fsdp2 2x4"]["crossed"] == [True] * 3
    assert all(all(two[name]["whole"]) for name in RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_no_step_has_a_barrier(two, name):
    """The host would wait there for the device, and then the device for the host."""
    assert two[name]["barriers"] == [] and len(two[name]["losses"]) > 0


@pytest.mark.parametrize("name", RUNS)
def test_a_step_waits_for_the_device_once(two, name):
    """For the numbers at its end: not for the count of all ranks' targets at its start, nor for a micro-batch."""
    assert len(two[name]["waits"]) == len(two[name]["losses"])
    for waits in two[name]["waits"]:
        assert [wait.split(" at ")[0] for wait in waits] == ["tolist"] and "training/module.py" in waits[0]


def test_a_wrong_sum_would_show(one):
    """The test can fail: without the third step's rows of one rank the gradient is another one."""
    assert distance(one["gradients"][2], one["gradients"][1]) > 1e-2


@pytest.fixture
def torch_2_11(monkeypatch):
    """The line with which torch 2.11 makes a share a parameter, in place of what this torch has (2.12 and later)."""
    source = inspect.getsource(_fsdp_param.FSDPParam._init_sharded_param)
    newer = (
        r"nn\.Parameter\(\s*self\.to_sharded_dtensor\(sharded_param\),\s*requires_grad=param\.requires_grad,?\s*\)\n"
    )
    older = "nn.Parameter(self.to_sharded_dtensor(sharded_param)).requires_grad_(param.requires_grad)\n"
    source, found = re.subn(newer, older, textwrap.dedent(source))
    assert found == (torch.__version__ >= "2.12")
    names: dict = {}
    exec(source, vars(_fsdp_param), names)
    monkeypatch.setattr(_fsdp_param.FSDPParam, "_init_sharded_param", names["_init_sharded_param"])


@pytest.mark.parametrize("takes_no_bytes", [True, False])
def test_bytes_are_sharded_under_torch_2_11(one, tiny_llama, tmp_path, torch_2_11, monkeypatch, takes_no_bytes):
    """One rank's step is the plain process's; without our context the packed weights are refused."""
    monkeypatch.setattr(sharding, "TAKES_NO_BYTES", takes_no_bytes)
    options = STEPS | FSDP2 | {"size": 8, "steps": 1}
    with patch.dict(os.environ, {"MASTER_ADDR": "127.0.0.1"}):  # the launcher leaves variables behind
        try:
            if takes_no_bytes:
                got = train(tiny_llama, tmp_path, options)
                assert distance(got["gradients"][0], one["gradients"][0]) < 1e-6
                assert got["before"] == got["after"] == got["end"] == one["before"]
            else:
                with pytest.raises(RuntimeError, match="only Tensors of floating point dtype can require gradients"):
                    train(tiny_llama, tmp_path, options)
        finally:
            torch.distributed.destroy_process_group()
    assert _fsdp_param.nn is torch.nn
