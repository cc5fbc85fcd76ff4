"""scripts/sweep.py: trials spread over GPUs, one each."""

import json
import sys
import threading
import time
from collections import Counter

import pytest
import yaml

from scripts import sweep


@pytest.fixture
def trials(tmp_path, monkeypatch):
    """trials(*options): the GPU of each of six trials, and how many ran on one at the same time at most."""
    (tmp_path / "six.yaml").write_text(yaml.safe_dump({f"lr-{n}": {"model.lr": n} for n in range(1, 7)}))
    lock, running, most, used = threading.Lock(), Counter(), Counter(), {}

    def run_revinst(log, gpu, *args):
        with lock:
            running[gpu] += 1
            most[gpu] = max(most[gpu], running[gpu])
        time.sleep(0.05)
        with lock:
            running[gpu] -= 1
            used.setdefault(log.stem, set()).add(gpu)
        score = {"mean": 0.5, "ci95": [0.4, 0.6], "n": 6}
        metrics = dict.fromkeys(("rougeL", "rouge1", "rouge2"), score)
        return json.dumps(
            {"n": 6, "metrics": metrics, "heldout_loss": 1.0, "baselines": {"x": {"rougeL": 0.1}}}
        ).encode()

    def run(*options):
        monkeypatch.setattr(sweep, "run_revinst", run_revinst)
        table = tmp_path / f"{len(options)}.jsonl"
        monkeypatch.setattr(
            sys, "argv", ["sweep", "c.yaml", str(tmp_path / "six.yaml"), "--table", str(table), *options]
        )
        sweep.main()
        assert len(table.read_text().splitlines()) == 6
        return used, most

    return run


def test_each_trial_has_a_gpu_for_itself(trials, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3,5")
    used, most = trials("--gpus", "all")
    assert most == {"1": 1, "3": 1, "5": 1} and all(len(gpus) == 1 for gpus in used.values()) and len(used) == 6


def test_at_once_is_for_each_device(trials):
    assert trials("--gpus", "0,2", "--at_once", "2")[1] == {"0": 2, "2": 2}


def test_without_gpus_trials_share_what_there_is(trials):
    assert trials("--at_once", "3")[1] == {None: 3}


def test_no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SystemExit, match="--at_once"):
        sweep.list_gpus("all")
