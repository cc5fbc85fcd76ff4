"""Evernote's .enex: notes, without those that were clipped from the web."""

from collections.abc import Iterator
from pathlib import Path

from revinst.corpus.documents.feeds import read_fields, stream_elements
from revinst.corpus.documents.metadata import authors_of, read_any_date
from revinst.corpus.documents.page import page_text
from revinst.corpus.texts import Ingested, Message


def read_enex(path: Path, where: str) -> Iterator[Ingested]:
    for number, note in enumerate(stream_elements(path, "note"), start=1):
        fields, about = read_fields(note), note.find("note-attributes")
        attributes = read_fields(about) if about is not None else {}
        author = authors_of([attributes.get("author", "")])
        is_clipped = attributes.get("source", "").startswith("web.clip") or attributes.get("source-url")
        here = f"{where}#{number}"
        yield Message(
            here,
            page_text(fields.get("content", "")),
            "note",
            author,
            "the notes",
            read_any_date(fields.get("created")),
            here,
            names=author,
            left_out="a clipping of a web page" if is_clipped else "",
        )
