"""A mistake is answered on one line that says what to do, and without waiting for PyTorch or Lightning."""

import json
import subprocess
import sys
import time

import pytest

from tests.commands.mistakes import MISTAKES, write_folder
from tests.tiny import run_in_process

HEAVY = ("torch", "lightning", "transformers", "datasets")
ALL_AT_ONCE = f"""
import contextlib, io, json, sys
from revinst import cli
answers = []
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            cli.main(line.split())
        except SystemExit as ended:
            answers.append([ended.code, said.getvalue(), [name for name in {HEAVY!r} if name in sys.modules]])
print(json.dumps(answers))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("typed", "says"), MISTAKES, ids=lambda text: text[:50])
def test_answer(folder, capsys, typed, says):
    before = sorted(folder.rglob("*"))
    assert run_in_process(*typed.split()) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and len(said) < 300
    assert "class '" not in said and "typing." not in said and "Parser key" not in said
    assert sorted(folder.rglob("*")) == before, "nothing is made"


def test_nothing_heavy_is_imported(folder):
    """All in one process: after the last one none of these has been imported by any."""
    lines = json.dumps([typed for typed, _ in MISTAKES])
    done = subprocess.run([sys.executable, "-c", ALL_AT_ONCE, lines], capture_output=True, text=True, check=True)
    answers = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) == len(MISTAKES) >= 60
    wrong = {MISTAKES[n][0]: answer for n, answer in enumerate(answers) if answer[0] != 2 or answer[2]}
    assert wrong == {}


def test_help_is_quick_and_one_screen(capsys):
    assert run_in_process("fit", "--help") == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) <= 42 and max(map(len, said.splitlines())) <= 120
    assert "--model.lr 0.0002" in said and "--help_all" in said
    assert run_in_process("fit", "--help_all") == 0
    whole = capsys.readouterr().out
    assert "--trainer.detect_anomaly" in whole and len(whole.splitlines()) > 200


@pytest.mark.wide
def test_an_answer_comes_within_two_seconds(folder):
    """Of a process of its own, as typed. The best of three: the machine may be busy."""
    for typed, _ in MISTAKES[::8]:
        took = []
        for _ in range(3):
            since = time.perf_counter()
            subprocess.run([sys.executable, "-m", "revinst", *typed.split()], capture_output=True, check=False)
            took.append(time.perf_counter() - since)
        assert min(took) < 2, (typed, took)
