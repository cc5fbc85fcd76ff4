"""Who wrote a text decides whether it is kept; where nobody is named as me, nothing is kept unasked."""

import json

import pytest

from revinst.corpus.authors import Authors, author_key, join_own, read_me
from revinst.corpus.ingest import Ingest, list_authors
from revinst.corpus.texts import Message, NotKept
from revinst.errors import UserError
from scripts.made_mail import ME, write_mbox
from tests.commands.test_run import run_command


def chat(minute: int, author: str = "Ann", conversation: str = "c", text: str = "") -> Message:
    date = f"2026-03-02T{10 + minute // 60:02}:{minute % 60:02}:00+00:00"
    return Message(f"x#{minute}", text or f"at {minute}", "chat", (author,), "chat", date, conversation)


@pytest.mark.parametrize(
    "given, written",
    [
        ("Alex Moreau", "alex  MOREAU"),
        ("@alex", "alex"),
        ("+49 170 5550123", "\u202a+49\u00a0(170) 555-0123\u202c"),
        ("U012", "u012"),
        ("Alex M. <Alex@Example.com>", "alex@example.com"),
        ("STRASSE", "Straße"),
    ],
)
def test_me_as_it_is_written(given, written):
    assert Authors(read_me([given])).is_me(("somebody", written))
    assert not Authors(read_me([given])).is_me(("somebody", written + "x"))


def test_me_must_say_something():
    with pytest.raises(UserError, match="--list_authors"):
        read_me([" "])
    assert author_key("2026") == "2026"


def test_rows_that_name_authors(tmp_path):
    """A table with a column for its authors keeps mine alone; a row that names nobody is not mine either."""
    rows = [{"sender": "Alex", "text": "Mine."}, {"sender": "Kim", "text": "Theirs."}, {"text": "A bot's."}]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ingest = Ingest(path, ["alex"])
    assert [(text.text, text.author) for text in ingest.texts()] == [("Mine.", "Alex")]
    assert [note.reason for note in ingest.not_kept] == [
        "not written by me",
        "it names no author, and others in the file do",
    ]


@pytest.mark.parametrize("me", [[], ["bob"]])
def test_authors_of_whom_none_is_me_are_refused(tmp_path, me):
    rows = [{"author": name, "text": f"{name}'s."} for name in ("Ann", "Kim")]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "note.txt").write_text("A note.")
    with pytest.raises(UserError, match=r"a table.*Ann.*--list_authors"):
        Ingest(tmp_path, me)
    (tmp_path / "t.json").unlink()
    assert [text.author for text in Ingest(tmp_path, me).texts()] == [""]


def test_mail_names_its_authors(tmp_path):
    write_mbox(tmp_path / "mail.mbox")
    with pytest.raises(UserError, match="the mail in it"):
        Ingest(tmp_path / "mail.mbox", ["Mara Lindqvist"])  # anybody can write her name before another address
    assert {text.author for text in Ingest(tmp_path / "mail.mbox", [ME]).texts()} == {ME}


def test_list_authors(tmp_path, capsys):
    write_mbox(tmp_path / "mail.mbox")
    counts = list_authors(tmp_path / "mail.mbox", "text").counts["the mail"]
    assert counts[(ME,)] == max(counts.values()) > 50
    assert run_command("corpus", tmp_path / "mail.mbox", "--list_authors") == 0
    assert ME in capsys.readouterr().out
    assert run_command("corpus", tmp_path / "mail.mbox") == 2
    assert "OUT_DIR, --run" in capsys.readouterr().err


def test_joined_within_minutes():
    """Mine alone, of one chat, each within the time since the one before; what lies between them keeps them apart."""
    stream = [
        chat(0), chat(4), chat(8), chat(14), chat(15, "Kim"), chat(16), chat(17, conversation="d"),
        NotKept("y", "bad"), chat(18, conversation="d"),
    ]  # fmt: skip
    joined = list(join_own(stream, Authors(["ann"]), 5))
    assert [each.text if isinstance(each, Message) else "bad" for each in joined] == [
        "at 0\nat 4\nat 8", "at 14", "at 15", "at 16", "at 17", "bad", "at 18",
    ]  # fmt: skip
    assert joined[0].where == "x#0"


def test_mails_are_not_joined(tmp_path):
    write_mbox(tmp_path / "mail.mbox")
    assert len(list(Ingest(tmp_path / "mail.mbox", [ME], join_minutes=10**6).texts())) == 55
