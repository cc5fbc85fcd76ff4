"""Two runs with one name, two that build one data cache, and the same run twice: the same bits (CPU)."""

import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.survive.faults import arguments, assert_equal, count_lost, run_process, start_process, state_of

pytestmark = pytest.mark.wide


def wait_until_stopped(pid: int) -> None:
    deadline = time.monotonic() + 120
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline, "it never came to its event"
        time.sleep(0.02)


def test_two_runs_of_one_name(folder, tiny_llama, whole, fault):
    """The second is refused while the first is halted in a step, and takes over when the first has been killed."""
    args, log = arguments(folder, "taken", tiny_llama), folder / "taken-second.log"
    with fault("two runs of one name") as counts:
        first, _ = start_process(args, folder / "taken.log", "SIGSTOP", "micro_batch_loss:9")
        wait_until_stopped(first.pid)
        before = {path: path.read_bytes() for path in (folder / "taken").rglob("*") if path.is_file()}
        counts["injected"] += 1
        assert run_process(args, log)[0] == 2
        line = log.read_text().strip().splitlines()[-1]
        assert f"in use by process {first.pid} on " in line and " since 20" in line
        assert before == {path: path.read_bytes() for path in (folder / "taken").rglob("*") if path.is_file()}
        first.kill()
        first.join(60)
        counts["injected"] += 1
        assert run_process(args, log)[0] == 0
        assert f"taken over from process {first.pid}" in log.read_text()
        state = state_of(folder / "taken")
        counts["bytes_lost"] += count_lost(state, whole[0])
        assert_equal(state, whole[0])


def test_two_runs_that_build_one_cache(folder, tiny_llama, whole, fault):
    """The first is halted when it has built the cache and not yet put it in place; the second overtakes it."""
    cache = Path(os.environ["REVINST_CACHE"]) / "documents"
    with fault("two builders of one cache") as counts:
        shutil.rmtree(cache)
        first, _ = start_process(
            arguments(folder, "builder-1", tiny_llama), folder / "builder-1.log", "SIGSTOP", "rename:0"
        )
        wait_until_stopped(first.pid)
        assert all(path.name.startswith(".") for path in cache.iterdir())
        counts["injected"] += 1
        assert run_process(arguments(folder, "builder-2", tiny_llama), folder / "builder-2.log")[0] == 0
        os.kill(first.pid, signal.SIGCONT)
        first.join(240)
        assert first.exitcode == 0
        assert len(list(cache.iterdir())) == 2, "one for training, one for validation, nothing half-built"
        for name in ("builder-1", "builder-2"):
            state = state_of(folder / name)
            counts["bytes_lost"] += count_lost(state, whole[0])
            assert_equal(state, whole[0])


def test_the_same_config_gives_the_same_bits(folder, tiny_llama, whole):
    """`fit --config runs/NAME/config.yaml --run_name NEW`, in another process."""
    args = ["fit", "--config", str(folder / "whole" / "config.yaml"), "--run_name", "reproduced"]
    assert run_process(args, folder / "reproduced.log")[0] == 0
    state = state_of(folder / "reproduced")
    assert state["adapter"] == whole[0]["adapter"] and state["manifest"]["hashes"] == whole[0]["manifest"]["hashes"]
    assert_equal(state, whole[0])


def test_two_threads_give_the_same_bits_twice(folder, tiny_llama):
    """Other bits than one thread's perhaps, but the same in each run."""
    states = []
    for name in ("threads-1", "threads-2"):
        args = arguments(folder, name, tiny_llama, **{"trainer.max_steps": 4})
        assert run_process(args, folder / f"{name}.log", threads=2)[0] == 0
        states.append(state_of(folder / name))
    assert_equal(*states)
