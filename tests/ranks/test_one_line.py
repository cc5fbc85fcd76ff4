"""A mistake that all ranks run into is said by the first one; one that a rank has for itself is not lost."""

import os
import signal
import subprocess
import sys
from argparse import Namespace

import pytest

from revinst import cli
from revinst.commands.evaluate import evaluate
from revinst.commands.options import run_on_devices
from revinst.config.shipped import say_shipped
from revinst.errors import UserError
from revinst.launch.ranks import AGENT, ending, open_ranks, run_command
from revinst.training.trainer import check_launcher

SAID = f"revinst fit: give a config, as in `revinst fit quickstart`{say_shipped()}\n"


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"])
@pytest.mark.parametrize(
    ("rank", "agent", "waited"), [("0", "", []), ("3", "", [3]), ("3", str(os.getppid()), [])], ids=str
)
def test_who_says_it(capsys, monkeypatch, name, rank, agent, waited):
    """A launcher ends the others while they wait; our agent hides what they say."""
    waits = []
    for variable in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK", AGENT):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, rank)
    if agent:
        monkeypatch.setenv(AGENT, agent)
        monkeypatch.setattr(cli, "follow_agent", lambda: None)
    monkeypatch.setattr(cli.time, "sleep", waits.append)
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit"])
    assert ended.value.code == 2 and capsys.readouterr().err == SAID and waits == waited


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"}


@pytest.fixture
def environment(monkeypatch):
    for name in (*TORCHRUN, *SRUN, AGENT):
        monkeypatch.delenv(name, raising=False)
    return lambda values: [monkeypatch.setenv(*item) for item in values.items()]


@pytest.mark.parametrize("started", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
def test_a_launcher_that_started_other_processes(environment, started):
    check_launcher(8, 4)  # nothing was started
    environment(started)
    check_launcher(2, 2)
    for devices, nodes in ((1, 1), (4, 1), (1, 4), (4, 2)):
        with pytest.raises(UserError, match=r"--trainer\.devices 2 --trainer\.num_nodes 2"):
            check_launcher(devices, nodes)


def test_rows_are_not_shared_twice(environment):
    """Every task of an srun would do all rows; --devices under torchrun would start processes in processes."""
    environment(SRUN)
    with pytest.raises(UserError, match="torchrun"), open_ranks():
        pass
    environment(TORCHRUN)
    with pytest.raises(UserError, match="leave it out"):
        run_on_devices("evaluate", [], Namespace(devices=2), evaluate)


def test_a_command_in_a_process_of_its_own(capfd, environment):
    """It is no rank, whatever started this one."""
    environment(TORCHRUN | {AGENT: "1"})
    assert run_command("--version") == 0 and capfd.readouterr().out.startswith("revinst ")
    assert run_command("fly", 3) == 2 and "unknown command 'fly'" in capfd.readouterr().err


@pytest.mark.parametrize("name", [name for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)])
def test_a_signal_ends_the_other_process_first(name):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    before = signal.getsignal(getattr(signal, name))
    with pytest.raises(SystemExit) as ended, ending([process]):
        os.kill(os.getpid(), getattr(signal, name))
        process.wait()
    assert ended.value.code == 143 and process.poll() == -signal.SIGTERM
    assert signal.getsignal(getattr(signal, name)) == before
