"""Notes and diaries: Google Keep, Day One."""

import re
from collections.abc import Iterator
from pathlib import Path

from revinst.corpus.chats.json_files import (
    Fields,
    begins_with,
    dicts_in,
    load_json,
    object_in,
    read_seconds,
    text_in,
)
from revinst.corpus.chats.json_stream import read_items
from revinst.corpus.kind import Kind
from revinst.corpus.tables import read_iso
from revinst.corpus.texts import Ingested, Message

PICTURE = re.compile(r"!\[[^\]\n]{0,200}\]\(dayone-moment:[^)\n]{1,200}\)")
ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+.!>~|-])")  # Day One's Markdown


def is_keep(path: Path) -> bool:
    return begins_with(path, "{", "isTrashed", "isPinned", "userEditedTimestampUsec")


def is_day_one(path: Path) -> bool:
    return begins_with(path, "{", "metadata", "version", "entries", "uuid", "creationDate")


def read_keep(path: Path, where: str) -> Iterator[Ingested]:
    """One note."""
    note = object_in({"": load_json(path)}, "")
    items = (line for item in dicts_in(note.get("listContent")) for line in text_in(item, "text"))
    text = "\n".join((*text_in(note, "textContent"), *items)).strip()
    date = note.get("createdTimestampUsec") or note.get("userEditedTimestampUsec")
    date, left_out = read_seconds(date, 1e-6), why_not_kept(note, text)
    yield Message(where, text, "note", date=date, conversation=where, left_out=left_out)


def why_not_kept(note: Fields, text: str) -> str:
    if note.get("isTrashed") is True:
        return "deleted"
    if next(dicts_in(note.get("sharees")), None):
        return "shared, and somebody else may have written it"
    return "" if text else "no text in it, only a title or attachments"


def read_day_one(path: Path, where: str) -> Iterator[Ingested]:
    for number, entry in enumerate(read_items(path, "entries"), start=1):
        here = f"{where}#{number}"
        text = ESCAPED.sub(r"\1", PICTURE.sub("", "".join(text_in(entry, "text")))).strip()
        left_out = "" if text else "no text in it, only attachments"
        date = read_iso(entry.get("creationDate"))
        yield Message(here, text, "note", date=date, conversation=here, left_out=left_out)


KINDS = (
    Kind(
        "Google Keep",
        "JSON: `isTrashed`, `isPinned`, `userEditedTimestampUsec`",
        "notes and lists, without deleted and shared ones",
        "takeout.google.com, Keep",
        is_keep,
        read_keep,
    ),
    Kind(
        "Day One",
        "JSON: `metadata` with `version`, `entries` with `uuid`, `creationDate`",
        "entries, without pictures",
        "Settings, Import/Export, Export, JSON",
        is_day_one,
        read_day_one,
    ),
)
