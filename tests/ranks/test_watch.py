"""A rank that dies or fails ends the others in seconds, with its reason; an orderly end is quiet."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("watched.py")


def start(folder: Path, *ends: str) -> list[subprocess.Popen]:
    ranks = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(folder / "port"), *end.split()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, end in enumerate(ends)
    ]
    for rank in ranks:
        assert rank.stdout.readline() == "watching\n"
    return ranks


def wait(ranks: list[subprocess.Popen]) -> tuple[list[int], list[str], float]:
    since = time.monotonic()
    errors = [rank.communicate(timeout=30)[1] for rank in ranks]
    return [rank.returncode for rank in ranks], errors, time.monotonic() - since


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_killed_rank_ends_all(tmp_path, victim):
    ranks = start(tmp_path, "", "", "")
    ranks[victim].send_signal(signal.SIGKILL)
    codes, errors, seconds = wait(ranks)
    assert codes == [-9 if rank == victim else 1 for rank in range(3)] and seconds < 10
    said = [rank for rank, error in enumerate(errors) if f"rank {victim} is gone without a word" in error]
    assert said == ([1, 2] if victim == 0 else [0])


def test_a_reason_reaches_the_first_rank(tmp_path):
    codes, errors, seconds = wait(start(tmp_path, "", "", "fail"))
    assert codes == [1, 1, 2] and seconds < 10
    assert errors[0].strip() == "revinst: rank 2 failed: ValueError: no room; all ranks end"


def test_what_all_run_into_the_first_rank_says_for_itself(tmp_path):
    codes, errors, _ = wait(start(tmp_path, "mistake", "mistake", "mistake"))
    assert codes == [2, 2, 2] and errors == ["", "", ""]
    (tmp_path / "port").unlink()
    codes, errors, _ = wait(start(tmp_path, "", "mistake", ""))
    assert codes == [2, 2, 2] and errors[0].strip() == "revinst: rank 1 failed: UserError: no such file; all ranks end"


def test_an_orderly_end_is_quiet(tmp_path):
    """The first rank ends before the others do."""
    codes, errors, _ = wait(start(tmp_path, "close", "close", "close"))
    assert codes == [0, 0, 0] and errors == ["", "", ""]
