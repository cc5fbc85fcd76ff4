"""Two of torch's agents on one machine: one leaves, and the other goes on alone from the newest checkpoint."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from revinst.runs.metrics import read_rows
from tests.invariants.two_ranks import free_port
from tests.survive.faults import arguments, write_rows
from tests.survive.two_ranks import wait_for_steps

pytestmark = pytest.mark.wide
KEYS = {"trainer.devices": 1, "trainer.num_nodes": 2, "trainer.strategy": "ddp", "trainer.accelerator": "cpu"}


def start(folder: Path, base: Path, port: int, is_host: bool) -> subprocess.Popen:
    line = [Path(sys.executable).with_name("torchrun"), "--nnodes", "1:2", "--nproc-per-node", "1"]
    line += ["--max-restarts", "3", "--rdzv-backend", "c10d", "--rdzv-id", "elastic"]
    line += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-conf", f"is_host={is_host},last_call_timeout=5"]
    line += ["--local-addr", "127.0.0.1", "-m", "revinst.cli"]
    keys = KEYS | {"data.micro_batch_size": 2, "trainer.max_epochs": 12}
    log = (folder / "elastic.log").open("ab")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*line, *arguments(folder, "elastic", base, **keys)], stdout=log, stderr=log, env=environment
    )


def test_an_agent_leaves(tiny_llama, tmp_path):
    write_rows(tmp_path / "rows.jsonl")
    port = free_port()
    host = start(tmp_path, tiny_llama, port, True)
    guest = start(tmp_path, tiny_llama, port, False)
    log, run = tmp_path / "elastic.log", tmp_path / "elastic"
    try:
        wait_for_steps(host, run, 6)
        assert json.loads((run / "manifest.json").read_text())["world_size"] == 2
        family = [psutil.Process(guest.pid), *psutil.Process(guest.pid).children(recursive=True)]
        for process in family:
            process.send_signal(signal.SIGKILL)
        assert host.wait(240) == 0, log.read_text()[-3000:]
    finally:
        host.terminate()
        guest.kill()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["completed"] and manifest["world_size"] == 1
    positions = [float(row["data/position"]) for row in read_rows(run / "metrics.csv")]
    num_rows = positions[-1] / 12
    expected = [min(epoch * num_rows + 4 * step, (epoch + 1) * num_rows) for epoch in range(12) for step in range(1, 9)]
    assert positions == expected, "each row once an epoch, in steps of 4"
