"""Word's .docx and LibreOffice's .odt: the text, without what others inserted, deleted, noted or were quoted with."""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

from revinst.corpus.documents.encoding import join_paragraphs
from revinst.corpus.documents.metadata import authors_of, read_any_date
from revinst.corpus.documents.zipped_xml import Paragraphs, feed_part, local, open_parts, read_values
from revinst.corpus.texts import Ingested, Message

QUOTATIONS = ("quote", "intensequote", "quotations")  # styles of a paragraph; Word's and LibreOffice's


def attribute(attributes: dict[str, str], name: str) -> str:
    return next((value for key, value in attributes.items() if local(key) == name), "")


class Docx(Paragraphs):
    """Office Open XML's WordprocessingML (ECMA-376, part 1, section 17). author: of the document, () where unknown."""

    paragraphs, texts = frozenset({"p"}), frozenset({"t"})
    # deleted or moved away, kept a second time for old programs, and what a field is made of
    skipped = frozenset({"del", "moveFrom", "Fallback", "instrText"})
    signs = MappingProxyType({"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"})

    def __init__(self, author: tuple[str, ...]):
        super().__init__()
        self.author, self.in_tabs = author, 0

    def is_skipped(self, name: str, attributes: dict[str, str]) -> bool:
        if name in ("ins", "moveTo"):
            return authors_of([attribute(attributes, "author")]) != self.author
        return name in self.skipped or name == "tabs"  # the stops of a paragraph, which are named as the sign is

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        super().start(tag, attributes)
        if self.dropped and not self.in_skipped and local(tag) == "pStyle":
            self.dropped[-1] = attribute(attributes, "val").lower() in QUOTATIONS


class Odt(Paragraphs):
    """OpenDocument 1.3, part 3, chapters 5 and 6."""

    paragraphs = texts = frozenset({"p", "h"})
    skipped = frozenset({"annotation", "note", "tracked-changes", "table-of-content", "bibliography"})
    signs = MappingProxyType({"tab": "\t", "line-break": "\n", "s": " "})

    def __init__(self, author: tuple[str, ...]):
        super().__init__()
        self.author = author
        self.quotations = set(QUOTATIONS)  # names of styles that are such, or made from such
        self.others: set[str] = set()  # changes: insertions of others
        self.open_others: set[str] = set()  # of these, in whose text we are
        self.change, self.kind, self.creator = "", "", ""
        self.in_creator = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = local(tag)
        if name == "style" and attribute(attributes, "parent-style-name").lower() in self.quotations:
            self.quotations.add(attribute(attributes, "name").lower())
        self.read_change(name, attributes)
        super().start(tag, attributes)
        if name in self.paragraphs and self.dropped and not self.in_skipped:
            self.dropped[-1] = attribute(attributes, "style-name").lower() in self.quotations

    def read_change(self, name: str, attributes: dict[str, str]) -> None:
        if name == "changed-region":
            self.change, self.kind, self.creator = attribute(attributes, "id"), "", ""
        elif name in ("insertion", "deletion", "format-change"):
            self.kind = name
        elif name == "change-start" and attribute(attributes, "change-id") in self.others:
            self.open_others.add(attribute(attributes, "change-id"))
        elif name == "change-end":
            self.open_others.discard(attribute(attributes, "change-id"))
        self.in_creator = name == "creator"

    def data(self, text: str) -> None:
        if self.in_creator and self.change:
            self.creator += text
        if not self.open_others:
            super().data(text)

    def end(self, tag: str) -> None:
        self.in_creator = False
        if local(tag) == "changed-region" and self.kind == "insertion" and authors_of([self.creator]) != self.author:
            self.others.add(self.change)
        super().end(tag)


def read_docx(path: Path, where: str) -> Iterator[Ingested]:
    with open_parts(path) as archive:
        values = read_values(archive, "docProps/core.xml")
        found = Docx(authors_of(values.get("creator", [])))
        feed_part(archive, "word/document.xml", found)
    yield build(where, found, found.author, values.get("created", []))


def read_odt(path: Path, where: str) -> Iterator[Ingested]:
    with open_parts(path) as archive:
        values = read_values(archive, "meta.xml")
        found = Odt(authors_of(values.get("initial-creator") or values.get("creator", [])))
        feed_part(archive, "content.xml", found)
    yield build(where, found, found.author, values.get("creation-date") or values.get("date", []))


def build(where: str, found: Paragraphs, author: tuple[str, ...], dates: list[str]) -> Message:
    date = read_any_date(dates[0]) if dates else ""
    return Message(where, join_paragraphs(found.found), "note", author, "the documents", date, where, names=author)
