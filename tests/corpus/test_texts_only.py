"""`revinst corpus --texts_only`: texts and a page without a run, from which the same command goes on with one."""

import json
import os

import pytest

from revinst.corpus import build
from revinst.corpus.authors import Authors
from revinst.corpus.sample import Sample, split_kept
from revinst.corpus.texts import Message
from scripts.made_mail import ME, SECRETS
from tests.commands.test_run import run_command
from tests.corpus.test_corpus_command import OPTIONS, read


def test_texts_and_page(mbox, tmp_path, capsys, monkeypatch):
    out, page = tmp_path / "own", tmp_path / "own.texts.html"
    args = ("corpus", mbox, out, "--texts_only", "--redact", "--me", ME)
    assert run_command(*args) == 0
    printed = capsys.readouterr().out
    assert "55 texts" in printed and str(page) in printed
    texts = read(out / "texts.jsonl")
    assert len(texts) == 55 and {"id", "text", "date", "group", "kind", "author", "context"} <= texts[0].keys()
    assert len(read(out / "discarded.jsonl")) == 5 and all(row["reason"] for row in read(out / "discarded.jsonl"))
    html = page.read_text()
    assert page.stat().st_mode & 0o777 == 0o600 and not any(path.suffix == ".html" for path in out.rglob("*"))
    assert "<strong>60</strong>" in html and html.count("<article>") == 40 and 'class="left"' in html
    assert not [secret for secret in (*SECRETS.values(), ME) if secret in html] and "wrote:" in html
    monkeypatch.setattr(build, "Ingest", lambda *args, **named: pytest.fail("read again"))
    assert run_command(*args) == 0 and capsys.readouterr().out == printed
    assert run_command(*args[:-3], *args[-2:]) == 2 and "another redact; choose another" in capsys.readouterr().err
    os.utime(mbox, (1, 1))
    assert run_command(*args) == 2 and "made with another input" in capsys.readouterr().err
    assert read(out / "texts.jsonl") == texts


def test_publish_takes_nothing_of_it(mbox, tmp_path, capsys):
    out = tmp_path / "own"
    assert run_command("corpus", mbox, out, "--texts_only", "--redact", "--me", ME, "--limit", 5) == 0
    assert run_command("publish", out, "--dataset", "--push_to_hub", "me/own", "--dry_run") == 2
    assert "no files in it" in capsys.readouterr().err
    assert run_command("corpus", mbox, out, "--texts_only", "--redact", "--push_to_hub", "me/own") == 2
    assert "give --run" in capsys.readouterr().err
    assert run_command("corpus", mbox, out) == 2 and "--run (or --texts_only)" in capsys.readouterr().err


@pytest.mark.wide
def test_the_same_command_goes_on_with_a_run(backward_run, mbox, tmp_path, monkeypatch, capsys):
    """It makes what it would have made at once, and reads nothing again; other options are refused."""
    args = ("corpus", mbox, tmp_path / "own", "--limit", 12, "--samples", 1, *OPTIONS)
    assert run_command(*args[:3], "--limit", 12, "--me", ME, "--texts_only") == 0
    with monkeypatch.context() as patch:
        patch.setattr(build, "Ingest", lambda *args, **named: pytest.fail("read again"))
        assert run_command(*args, "--run", backward_run) == 0
        assert run_command(*args[:3], "--limit", 12, "--me", ME, "--texts_only") == 0
        assert run_command(*args, "--run", backward_run) == 0, "its settings are still known"
    capsys.readouterr()
    assert run_command(*args, "--run", backward_run, "--samples", 2) == 2
    assert "another samples" in capsys.readouterr().err
    at_once = ("corpus", mbox, tmp_path / "once", "--limit", 12, "--samples", 1, *OPTIONS)
    assert run_command(*at_once, "--run", backward_run) == 0
    for name in ("dataset.jsonl", "discarded.jsonl", "texts.jsonl", "provenance.jsonl"):
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    cards = [json.loads((tmp_path / name / "card.json").read_text()) for name in ("own", "once")]
    assert cards[0]["settings"] == cards[1]["settings"]


@pytest.mark.parametrize(
    ("whole", "text", "parts"),
    [
        ("Yes.\n\n> No?", "Yes.", [(True, "Yes."), (False, "> No?")]),
        ("> A?\nB.\n> C?\nD.", "B.\n\nD.", [(False, "> A?"), (True, "B."), (False, "> C?"), (True, "D.")]),
        ("One  line.", "One line.", [(True, "One line.")]),
        ("> all of it", "", [(False, "> all of it")]),
        ("", "", []),
    ],
)
def test_split_kept(whole, text, parts):
    assert split_kept(whole, text) == parts


def test_a_sample_does_not_depend_on_the_order():
    messages = [Message(f"a.txt#{number}", str(number), "note") for number in range(200)]
    drawn = []
    for order in (messages, messages[::-1]):
        sample = Sample(7)
        for message in order:
            sample.look(message, Authors(()))
        sample.look(Message("b", "theirs", "chat", ("Kim",)), Authors(("alex",)))
        drawn.append([message.text for message, _ in sample.texts()])
    assert drawn[0] == drawn[1] and len(drawn[0]) == 7
