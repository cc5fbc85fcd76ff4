"""Mails that nobody should have written end no run: mutated ones are kept or left out, and none takes long."""

import random
from collections import Counter
from functools import partial

import pytest

from scripts.mutate_mails import MUTATIONS, read_as_file
from tests.commands.test_run import run_command
from tests.corpus.made_threads import ME, make_answers
from tests.cpu_time import seconds


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.wide)])
def test_mutated_mails(count):
    mails = [mail.encode() for _, mail, _, _ in make_answers(0)]
    reasons: Counter[str] = Counter()
    for number in range(count):
        chance = random.Random(number)
        content = chance.choice(mails)
        for mutate in chance.choices(MUTATIONS, k=2):
            content = mutate(content, chance)
        mail = f"From: {ME}\n".encode() + content
        assert seconds(partial(read_as_file, mail, number % 10 == 0, reasons)) < 5, number
    assert reasons["kept"] > count / 3 and sum(reasons.values()) > count / 2


@pytest.mark.parametrize("count", [10, pytest.param(300, marks=pytest.mark.wide)])
def test_the_command_ends_well(count, tmp_path, capsys):
    """With texts, or with one line that says why there are none."""
    mails = [mail.encode() for _, mail, _, _ in make_answers(0)]
    codes: Counter[int] = Counter()
    for number in range(count):
        chance = random.Random(f"command {number}")
        content = chance.choice(mails)
        for mutate in chance.choices(MUTATIONS, k=chance.randint(1, 3)):
            content = mutate(content, chance)
        path = tmp_path / f"{number}{chance.choice(('.eml', '.mbox'))}"
        path.write_bytes((b"From me\n" if path.suffix == ".mbox" else b"") + f"From: {ME}\n".encode() + content)
        redact = ["--redact"] * (number % 2)
        codes[run_command("corpus", path, tmp_path / f"out{number}", "--texts_only", "--me", ME, *redact)] += 1
        assert "Traceback" not in capsys.readouterr().err
    assert codes[0] + codes[2] == count and codes[0] > count / 3
