"""`revinst fit` as real `torchrun` starts it, two processes on one machine, over gloo: the run of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from revinst.runs.metrics import read_rows
from tests.survive.faults import arguments, write_rows

pytestmark = pytest.mark.wide
TORCHRUN = [Path(sys.executable).with_name("torchrun"), "--standalone", "--nproc-per-node", "2", "-m", "revinst.cli"]
OPTIONS = {
    "model.lora": "{r: 4, alpha: 8, dropout: 0.0, target_modules: all-linear}",
    "model.optimizer": "adamw",
    "model.lr": 1e-3,
    "trainer.precision": "32-true",
    "trainer.accelerator": "cpu",
    "trainer.max_epochs": 1,
    "data.seq_len": 256,
    "val_generation.every_steps": 3,
    "val_generation.rows": 3,
}


def start(command: list, args: list[str]) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *args], env=environment, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def one(tiny_llama, tmp_path_factory) -> Path:
    """One process, 4 rows a step."""
    folder = tmp_path_factory.mktemp("torchrun")
    write_rows(folder / "rows.jsonl")
    ended = start([sys.executable, "-m", "revinst.cli"], arguments(folder, "one", tiny_llama, **OPTIONS))
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder / "one"


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_fit_under_torchrun(one, tiny_llama, strategy):
    ranks = {"data.micro_batch_size": 1, "trainer.devices": 2, "trainer.strategy": strategy}
    ended = start(TORCHRUN, arguments(one.parent, strategy, tiny_llama, **OPTIONS | ranks))
    assert ended.returncode == 0, ended.stderr[-3000:]
    run = one.parent / strategy
    assert ended.stdout.count("steps done; adapter in") == 1, "only the first rank prints"
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["completed"] and manifest["world_size"] == 2
    rows, expected = (read_rows(folder / "metrics.csv") for folder in (run, one))
    assert len(rows) == len(expected) >= 7
    for name, count in (
        ("train/loss", 7),
        ("train/grad_norm", 7),
        ("train/targets", 7),
        ("val/loss", 2),
        ("val/chrf", 2),
    ):
        values, others = ([float(row[name]) for row in each if row[name]] for each in (rows, expected))
        assert values == pytest.approx(others, rel=1e-5) and len(others) >= count
    adapters = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (run, one)]
    assert len(adapters[1]) == 2 * 7 * 2
    flat = [torch.cat([adapter[name].flatten() for name in adapters[1]]) for adapter in adapters]
    assert (flat[0] - flat[1]).norm() / flat[1].norm() < 1e-4


def test_only_the_first_rank_speaks(one, tiny_llama):
    """Of a mistake, whose line is not in what torchrun adds, and of a run that needs nothing."""
    args = arguments(one.parent, "mistake", tiny_llama, **OPTIONS | {"trainer.devices": 2, "model.lr": -1})
    ended = start(TORCHRUN, args)
    assert ended.returncode != 0 and ended.stderr.count("revinst fit: model.lr -1") == 1, ended.stderr
    assert not (one.parent / "mistake").exists()
    ended = start(TORCHRUN, arguments(one.parent, "one", tiny_llama, **OPTIONS | {"trainer.devices": 2}))
    assert ended.returncode == 0 and ended.stdout.count("this run has finished; nothing to do") == 1, ended.stderr
