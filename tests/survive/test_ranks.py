"""Two ranks on the CPU: both decide alike where to go on, a signal to one stops both, resuming is bit-equal."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from revinst.runs.metrics import read_rows
from tests.invariants.two_ranks import free_port
from tests.survive.faults import arguments, assert_equal, count_lost, state_of
from tests.survive.two_ranks import RANKS, ranks_of, start, wait_for_steps

pytestmark = pytest.mark.wide


def test_never_with_two_ranks(folder, whole_ranks):
    """Rank 1 must not take what rank 0 has just written for an existing run."""
    checkpoint = torch.load(folder / "ranks" / "checkpoints" / whole_ranks["files"][-1], weights_only=True)
    first, second = (state["torch"] for state in checkpoint["run"]["rng"])
    assert not torch.equal(first, second), "each rank has dropout masks of its own"
    assert whole_ranks["manifest"]["completed"]


@pytest.mark.parametrize("to", ["the agent", "rank 0", "rank 1"])
def test_sigterm_to_one_rank_stops_both(folder, tiny_llama, whole_ranks, fault, to):
    name = f"stopped-ranks-{to.replace(' ', '-')}"
    process, log = start(folder, tiny_llama, name), folder / f"{name}.log"
    wait_for_steps(process, folder / name, 4)
    with fault("SIGTERM to one of two ranks") as counts:
        {"the agent": process, **dict(zip(("rank 0", "rank 1"), ranks_of(process), strict=True))}[to].send_signal(
            signal.SIGTERM
        )
        counts["injected"] += 1
        assert process.wait(120) == 143, log.read_text()[-3000:]
        assert log.read_text().count("stopped by SIGTERM") == 1 and "Traceback" not in log.read_text()
        assert start(folder, tiny_llama, name).wait(240) == 0, log.read_text()[-3000:]
        state = state_of(folder / name)
        counts["bytes_lost"] += count_lost(state, whole_ranks)
        assert_equal(state, whole_ranks)


def test_an_agent_that_is_killed_leaves_nobody(folder, tiny_llama, whole_ranks, fault):
    """Its ranks finish their step and save."""
    process, run = start(folder, tiny_llama, "no-agent"), folder / "no-agent"
    wait_for_steps(process, run, 4)
    ranks = ranks_of(process)
    with fault("SIGKILL of the agent") as counts:
        process.kill()
        counts["injected"] += 1
        assert not psutil.wait_procs(ranks, timeout=60)[1]
        assert run.with_suffix(".log").read_text().count("stopped by SIGTERM") == 1
        assert start(folder, tiny_llama, "no-agent").wait(240) == 0
        counts["bytes_lost"] += count_lost(state_of(run), whole_ranks)
        assert_equal(state_of(run), whole_ranks)


def test_on_more_devices_it_goes_on_at_the_same_row(folder, tiny_llama, stopped, copy_of):
    """Stopped after 7 steps of 4 rows on one rank; then two ranks share the same steps, each row once an epoch."""
    run, log = copy_of("stopped", "more-devices"), folder / "more-devices.log"
    options = {"data.micro_batch_size": 2, "trainer.accelerator": "auto", "trainer.strategy": "auto"}
    assert start(folder, tiny_llama, "more-devices", **options).wait(240) == 0, log.read_text()[-3000:]
    positions = [float(row["data/position"]) for row in read_rows(run / "metrics.csv")]
    num_rows = positions[-1] / 2
    assert 28 < num_rows <= 32 and positions[:7] == [4 * step for step in range(1, 8)]
    assert positions[7:] == [num_rows, *(min(num_rows + 4 * step, 2 * num_rows) for step in range(1, 9))]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_run(folder, tiny_llama, fault, strategy, victim):
    """SIGKILL in training: no process is left within a minute, and the reason is in the output once."""
    name = f"dead-{strategy}-{victim}"
    options = {"trainer.strategy": strategy, "model.optimizer": "adamw", "trainer.max_epochs": 200}
    process, log = start(folder, tiny_llama, name, **options), folder / f"{name}.log"
    wait_for_steps(process, folder / name, 4)
    ranks = ranks_of(process)
    with fault("SIGKILL of one of two ranks") as counts:
        ranks[victim].send_signal(signal.SIGKILL)
        counts["injected"] += 1
        since = time.monotonic()
        assert process.wait(60) == 1
        psutil.wait_procs(ranks, timeout=60)
        assert not any(rank.is_running() for rank in ranks) and time.monotonic() - since < 60
        assert log.read_text().count(f"revinst fit: rank {victim} ended with SIGKILL") == 1


def test_ranks_that_see_other_files_do_not_train(folder, tiny_llama, stopped, copy_of):
    """Two machines without a shared folder: one has the checkpoint, the other has not."""
    copy_of("stopped", "here/elsewhere")
    (folder / "there").mkdir()
    port, processes = free_port(), []
    for rank, runs in enumerate(("here", "there")):
        options = RANKS | {"trainer.devices": 1, "trainer.num_nodes": 2, "data.source": folder / "rows.jsonl"}
        command = [sys.executable, "-m", "revinst.cli", *arguments(folder / runs, "elsewhere", tiny_llama, **options)]
        command += ["--resume_force", "true"]
        environment = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "NODE_RANK": str(rank),
            "OMP_NUM_THREADS": "1",
        }
        log = (folder / f"elsewhere-{rank}.log").open("wb")
        processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment))
    try:
        assert [process.wait(120) for process in processes] == [2, 2], (folder / "elsewhere-0.log").read_text()[-3000:]
    finally:
        [process.kill() for process in processes]
    said = (folder / "elsewhere-0.log").read_text()
    assert "rank 0 from step-000007.ckpt" in said and "rank 1 from the beginning" in said
    assert not (folder / "there" / "elsewhere" / "manifest.json").exists()


def test_a_signal_before_training_ends_the_other_rank_too(folder, tiny_llama, fault):
    """SIGTERM to the first rank once the run has a folder: before the base is loaded, or while it is."""
    process = start(folder, tiny_llama, "early")
    deadline = time.monotonic() + 120
    while not (folder / "early" / "config.yaml").is_file():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    ranks = ranks_of(process)
    with fault("SIGTERM to one of two ranks") as counts:
        ranks[0].send_signal(signal.SIGTERM)
        counts["injected"] += 1
        assert process.wait(60) == 143
        psutil.wait_procs(ranks, timeout=15)
        assert not any(rank.is_running() for rank in ranks)
