"""Property 1: the gradient of a step is the same however its rows are spread over micro-batches and ranks."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.invariants.step_gradient import save_gradient
from tests.tiny import build_data, build_module, build_trainer

ROWS = 6
SCRIPT = Path(__file__).with_name("step_gradient.py")


def gradient_of(base: Path, folder: Path, size: int, count: int) -> dict:
    out = folder / f"{size}x{count}.pt"
    data = build_data(base, rows_per_step=size * count, micro_batch_size=size)
    save_gradient(build_module(base), data, build_trainer(folder), out)
    return torch.load(out)


def gradient_over_ranks(base: Path, folder: Path, size: int, count: int) -> dict:
    out = folder / f"ranks-{size}x{count}.pt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(SCRIPT), str(base), str(out), str(size), str(count)]
    ranks = [
        subprocess.Popen([*command, str(rank), "2", str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=120)[0].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(outputs)[-3000:]
    return torch.load(out)


def assert_same_step(got: dict, expected: dict) -> None:
    assert got["targets"] == expected["targets"] > 100
    assert got["loss"] == pytest.approx(float(expected["loss"]), rel=1e-5)
    names = expected["gradient"].keys()
    assert got["gradient"].keys() == names and len(names) == 2 * 7 * 2
    flat = [torch.cat([step["gradient"][name].flatten() for name in names]) for step in (got, expected)]
    assert flat[1].norm() > 1e-3
    assert (flat[0] - flat[1]).norm() / flat[1].norm() < 1e-5


def test_micro_batches(tiny_llama, tmp_path):
    expected = gradient_of(tiny_llama, tmp_path, ROWS, 1)
    for size, count in ((3, 2), (2, 3), (1, 6)):
        assert_same_step(gradient_of(tiny_llama, tmp_path, size, count), expected)


def test_two_ranks(tiny_llama, tmp_path):
    expected = gradient_of(tiny_llama, tmp_path, ROWS, 1)
    assert_same_step(gradient_over_ranks(tiny_llama, tmp_path, 1, 3), expected)


def test_a_mean_of_micro_batch_means_would_differ(tiny_llama, tmp_path, monkeypatch):
    """The test can fail: micro-batches have unequal targets, so averaging their means gives another gradient."""
    expected = gradient_of(tiny_llama, tmp_path, 1, 6)
    module = build_module(tiny_llama)
    exact = module.micro_batch_loss
    per_step = expected["targets"] / 6
    monkeypatch.setattr(module, "micro_batch_loss", lambda batch: exact(batch) * (per_step / batch.num_targets))
    data = build_data(tiny_llama, micro_batch_size=1)
    save_gradient(module, data, build_trainer(tmp_path), tmp_path / "mean.pt")
    got = torch.load(tmp_path / "mean.pt")["gradient"]
    flat = [torch.cat([g[name].flatten() for name in got]) for g in (got, expected["gradient"])]
    assert (flat[0] - flat[1]).norm() / flat[1].norm() > 1e-2
