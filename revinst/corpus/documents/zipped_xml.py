"""Documents that are ZIPs of XML (docx, odt, epub): one part as a stream, within bounds, and its paragraphs.

The standard library's expat loads nothing from outside and ends entities that grow without end (2.4 and later).
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from xml.etree import ElementTree

from revinst.corpus.documents.encoding import MAX_BYTES, check_size
from revinst.errors import UserError

CHUNK = 1 << 20


class Target(Protocol):
    def start(self, tag: str, attributes: dict[str, str]) -> object: ...
    def end(self, tag: str) -> object: ...
    def data(self, text: str) -> object: ...


def open_parts(path: Path) -> zipfile.ZipFile:
    check_size(path)
    return zipfile.ZipFile(path)


def has_part(archive: zipfile.ZipFile, name: str) -> bool:
    return name in archive.NameToInfo


def check_part(archive: zipfile.ZipFile, name: str) -> None:
    """Raises UserError for one that is too large; `zipfile` reads no more of it than the size that it states."""
    if archive.getinfo(name).file_size > MAX_BYTES:
        raise UserError(f"{archive.filename}: {name} in it is larger than {MAX_BYTES >> 20} MiB, which no document is")


def read_part(archive: zipfile.ZipFile, name: str) -> bytes:
    check_part(archive, name)
    return archive.read(name)


def feed_part(archive: zipfile.ZipFile, name: str, target: Target) -> None:
    check_part(archive, name)
    parser = ElementTree.XMLParser(target=target)
    with archive.open(name) as file:
        while chunk := file.read(CHUNK):
            parser.feed(chunk)
    parser.close()


def read_values(archive: zipfile.ZipFile, name: str) -> dict[str, list[str]]:
    """Texts of a part's elements by their name without its namespace, as metadata has them; {} without the part."""
    values: dict[str, list[str]] = {}
    if has_part(archive, name):
        for element in ElementTree.fromstring(read_part(archive, name)).iter():
            values.setdefault(local(element.tag), []).append(element.text or "")
    return values


def local(tag: str) -> str:
    return tag.rpartition("}")[2]


class Paragraphs:
    """Collects paragraphs; a kind of document says in which elements they are, what is left out, and what stands for
    a sign. Paragraphs may lie in others (text boxes)."""

    paragraphs: frozenset[str]
    texts: frozenset[str]  # whose characters count
    skipped: frozenset[str]
    signs: Mapping[str, str]

    def __init__(self) -> None:
        self.found: list[str] = []
        self.open: list[list[str]] = []  # pieces of each paragraph that is open
        self.dropped: list[bool] = []  # whether each of these is a quotation
        self.in_text, self.in_skipped = 0, 0

    def is_skipped(self, name: str, attributes: dict[str, str]) -> bool:
        return name in self.skipped

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = local(tag)
        if self.in_skipped or self.is_skipped(name, attributes):
            self.in_skipped += 1
            return
        if name in self.paragraphs:
            self.open.append([])
            self.dropped.append(False)
        self.in_text += name in self.texts
        if self.open and name in self.signs:
            self.open[-1].append(self.signs[name])

    def data(self, text: str) -> None:
        if self.in_text and not self.in_skipped and self.open:
            self.open[-1].append(text)

    def end(self, tag: str) -> None:
        name = local(tag)
        if self.in_skipped:
            self.in_skipped -= 1
            return
        self.in_text -= name in self.texts
        if name in self.paragraphs and not self.dropped.pop():
            self.found.append("".join(self.open.pop()))
        elif name in self.paragraphs:
            self.open.pop()

    def close(self) -> None:
        """As `XMLParser` wants it."""
