"""The agent: a rank that dies or fails ends the others in seconds, with its reason; an orderly end is quiet."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from revinst.errors import UserError
from revinst.launch.ranks import AGENT, check_processes
from tests.tiny import run_in_process

SCRIPT = Path(__file__).with_name("ending.py")
AGENT_OF = "import sys; from revinst.launch import agent; agent.LINE = (); sys.exit(agent.launch({!r}, {!r}, 3))"


def start(what: str, who: str) -> subprocess.Popen:
    line = [sys.executable, "-c", AGENT_OF.format(str(SCRIPT), [what, who])]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(what: str, who: str) -> tuple[int, str, str, float]:
    """(exit code, stdout, stderr, seconds after the ranks had started)."""
    process = start(what, who)
    assert process.stdout.readline() == "rank 0 starts\n"
    since = time.monotonic()
    out, error = process.communicate(timeout=60)
    return process.returncode, out, error.replace(str(SCRIPT), "WHAT"), time.monotonic() - since


@pytest.mark.parametrize("victim", ["0", "1", "2"])
def test_a_killed_rank_ends_all(victim):
    code, out, error, seconds = end("kill", victim)
    assert (code, out) == (1, "") and seconds < 10
    assert error == f"revinst WHAT: rank {victim} ended with SIGKILL: killed, or out of memory\n"


def test_a_reason_is_shown():
    code, out, error, seconds = end("fail", "2")
    assert (code, out) == (1, "") and seconds < 15
    assert error == "Traceback: no room\nrevinst WHAT: rank 2 ended with exit code 1\n"


def test_what_all_run_into_the_first_rank_says():
    code, out, error, _ = end("mistake", "all")
    assert (code, out, error) == (2, "", "revinst: no such file\n")
    code, out, error, _ = end("mistake", "1")
    assert (code, out) == (2, "") and error == "revinst: no such file\nrevinst WHAT: rank 1 ended with exit code 2\n"


def test_an_orderly_end_is_quiet():
    assert end("end", "none")[:3] == (0, "", "")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_reaches_every_rank_once(name):
    """And they have the time that they take; the exit code is the first one's."""
    process = start("listen", "0")
    assert [process.stdout.readline() for _ in range(2)] == ["rank 0 starts\n", "listening\n"]
    time.sleep(0.3)
    ranks = psutil.Process(process.pid).children()
    process.send_signal(getattr(signal, name))
    time.sleep(1)
    assert process.poll() is None and all(each.is_running() for each in ranks)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 143 and error == f"seen [{int(getattr(signal, name))}]\n"


def test_a_rank_whose_agent_is_gone_does_not_begin():
    environment = os.environ | {AGENT: str(os.getpid() + 1)}
    ended = subprocess.run(
        [sys.executable, "-m", "revinst.cli", "fit"], env=environment, capture_output=True, check=False
    )
    assert ended.returncode == 143 and not ended.stderr


def test_more_processes_than_a_machine_survives_are_refused(tmp_path, capsys):
    check_processes("--devices", 2)
    with pytest.raises(UserError, match=r"--devices 5000: .* processors without a GPU take"):
        check_processes("--devices", 5000)
    config = "data: {source: quickstart}\nmodel: {base: x}\ntrainer: {accelerator: cpu, devices: 5000}\n"
    (tmp_path / "many.yaml").write_text(config)
    assert run_in_process("fit", str(tmp_path / "many.yaml"), "--runs_dir", str(tmp_path)) == 2
    assert "trainer.devices 5000: " in capsys.readouterr().err
