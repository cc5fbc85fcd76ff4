"""Fits of two ranks on the CPU, under our agent."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.survive.faults import arguments

RANKS = {"trainer.devices": 2, "trainer.accelerator": "cpu", "trainer.strategy": "ddp", "data.micro_batch_size": 1}


def start(folder: Path, base: Path, name: str, **options: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "revinst.cli", *arguments(folder, name, base, **RANKS | options)]
    log = (folder / f"{name}.log").open("ab")
    return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})


def ranks_of(agent: subprocess.Popen) -> list[psutil.Process]:
    """In their order, once all have been started."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.Error):
            ranks = {each.environ()["RANK"]: each for each in psutil.Process(agent.pid).children()}
            if len(ranks) == 2:
                return [ranks["0"], ranks["1"]]
        time.sleep(0.02)
    raise AssertionError("no ranks")


def wait_for_steps(process: subprocess.Popen, run: Path, steps: int) -> None:
    deadline = time.monotonic() + 120
    while not ((run / "metrics.csv").is_file() and len((run / "metrics.csv").read_text().splitlines()) > steps):
        assert time.monotonic() < deadline and process.poll() is None, run.with_suffix(".log").read_text()[-3000:]
        time.sleep(0.02)
