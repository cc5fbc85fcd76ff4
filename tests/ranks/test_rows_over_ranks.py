"""`evaluate` and `generate` with two processes: every row once, and what one process writes."""

import json
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from revinst.launch.ranks import Ranks
from tests.ranks.forked import run_forked
from tests.survive.faults import arguments, write_rows
from tests.tiny import run_in_process

SHORT = ("--max_new_tokens", "8")
FP32 = (*SHORT, "--precision", "fp32")
GREEDY = (*FP32, "--pick", "greedy")


@pytest.fixture(scope="module")
def run(tiny_llama, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder / "rows.jsonl", 31)
    options = {"trainer.max_epochs": 1, "data.heldout_fraction": 0.42, "model.lr": 1e-4}
    assert run_in_process(*arguments(folder, "run", tiny_llama, **options)) == 0
    return folder / "run"


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_same(got: list[dict], expected: list[dict], bound: float = 1e-3) -> None:
    """Equal but for the rounding of log p, whose sums depend on what is computed beside a row."""
    got, expected = ([dict(row) for row in rows] for rows in (got, expected))
    log_p = [[row.pop("log_p") for row in rows] for rows in (got, expected)]
    assert got == expected and log_p[0] == pytest.approx(log_p[1], rel=bound) and max(log_p[0]) < -1


def test_evaluation(run, tmp_path):
    """Of two rows that three ranks of a killed job had made, one is whole; it is not made again."""
    assert run_in_process("evaluate", run, *SHORT, "--output", tmp_path / "one") == 0
    expected = read_lines(tmp_path / "one" / "predictions.jsonl")
    assert len(expected) % 2 and len({row["prediction"] for row in expected}) > 5, "an odd number, and not all alike"
    two = tmp_path / "two"
    two.mkdir()
    shutil.copy(tmp_path / "one" / "predictions.settings.json", two)
    made = [json.dumps(row | {"prediction": "made before"}) for row in expected[:2]]
    (two / "predictions.part-1-of-3.jsonl").write_text(made[0] + "\n" + made[1][:50])
    codes = run_forked(["evaluate", run, *SHORT, "--output", two], tmp_path / "log")
    assert codes == [0, 0], (tmp_path / "log").read_text()
    got = read_lines(two / "predictions.jsonl")
    assert got[0]["prediction"] == "made before" and got[0]["id"] == expected[0]["id"]
    check_same(got[1:], expected[1:])
    scores = [json.loads((folder / "scores.json").read_text()) for folder in (tmp_path / "one", two)]
    assert scores[1]["heldout_loss"] == pytest.approx(scores[0]["heldout_loss"], rel=1e-6)
    assert scores[1]["baselines"] == scores[0]["baselines"]
    assert not list(two.rglob("*.part-*")) and (two / "report.html").is_file()


@pytest.fixture(scope="module")
def generated(run) -> list[dict]:
    """By one process, from all texts."""
    out = run.parent / "one.jsonl"
    assert run_in_process("generate", run, run.parent / "rows.jsonl", *GREEDY, "--output", out) == 0
    return read_lines(out)


def test_generation(run, generated, tmp_path):
    """In fp32, where log p hardly depends on what is computed beside a row."""
    out, log = tmp_path / "two.jsonl", tmp_path / "log"
    codes = run_forked(["generate", run, run.parent / "rows.jsonl", *GREEDY, "--output", out], log)
    assert codes == [0, 0] and log.read_text().count("31 instructions in") == 1, log.read_text()
    check_same(read_lines(out), generated, bound=1e-6)


@pytest.mark.wide
def test_samples(run, tmp_path):
    """Each row's are written by one rank, and do not depend on which."""
    args = ("generate", run, run.parent / "rows.jsonl", *FP32, "--samples", 3, "--output")
    assert run_in_process(*args, tmp_path / "one.jsonl") == 0
    codes = run_forked([*args, tmp_path / "two.jsonl"], tmp_path / "log")
    assert codes == [0, 0], (tmp_path / "log").read_text()
    assert (tmp_path / "log").read_text().count("samples: 3 each") == 1
    check_same(read_lines(tmp_path / "two.jsonl"), read_lines(tmp_path / "one.jsonl"), bound=1e-6)
    assert not list(tmp_path.glob("*.part-*")) and len(read_lines(tmp_path / "two.samples.jsonl")) == 31


@pytest.mark.wide
def test_devices_starts_the_ranks(run, generated, tmp_path):
    """And a mistake of all of them is one line."""
    command = [sys.executable, "-m", "revinst.cli", "generate", run, run.parent / "rows.jsonl"]
    command += [*GREEDY, "--devices", "2", "--output"]
    ended = subprocess.run([*command, tmp_path / "two.jsonl"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("31 instructions in") == 1
    check_same(read_lines(tmp_path / "two.jsonl"), generated, bound=1e-6)
    (tmp_path / "other.jsonl").write_text('{"not": "ours"}\n')
    ended = subprocess.run([*command, tmp_path / "other.jsonl"], capture_output=True, text=True, check=False)
    lines = [line for line in ended.stderr.splitlines() if "revinst" in line]
    assert ended.returncode == 2 and len(lines) == 1 and "was not made by revinst" in lines[0], ended.stderr
    assert (tmp_path / "other.jsonl").read_text() == '{"not": "ours"}\n'


def test_shares_are_put_together_in_order():
    for world_size in (1, 2, 3, 7):
        shares = [Ranks(rank, world_size).share(range(5)) for rank in range(world_size)]
        assert sorted(chain(*shares)) == [0, 1, 2, 3, 4] and max(map(len, shares)) - min(map(len, shares)) <= 1
