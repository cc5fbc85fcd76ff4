"""EPUB: a ZIP of XHTML, chapter by chapter in the order in which they are read."""

import posixpath
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree
from zipfile import ZipFile

from revinst.corpus.documents.metadata import authors_of, read_any_date
from revinst.corpus.documents.page import page_text
from revinst.corpus.documents.zipped_xml import has_part, local, open_parts, read_part
from revinst.corpus.texts import Ingested, Message, NotKept
from revinst.errors import UserError

CONTAINER = "META-INF/container.xml"
MAX_CHAPTERS = 10_000


def read_epub(path: Path, where: str) -> Iterator[Ingested]:
    with open_parts(path) as archive:
        if has_part(archive, "META-INF/rights.xml"):
            raise UserError(f"{path}: a book with copy protection")
        container = ElementTree.fromstring(read_part(archive, CONTAINER))
        package = next(each.get("full-path", "") for each in container.iter() if local(each.tag) == "rootfile")
        root = ElementTree.fromstring(read_part(archive, package))
        values: dict[str, list[str]] = {}
        for element in root.iter():
            values.setdefault(local(element.tag), []).append(element.text or "")
        author, dates = authors_of(values.get("creator", [])), values.get("date", [])
        date = read_any_date(dates[0]) if dates else ""
        for number, name in enumerate(list_chapters(archive, root, package), start=1):
            here = f"{where}#{number}"
            if not has_part(archive, name):
                yield NotKept(here, "a chapter that is not in the book")
                continue
            text = page_text(read_part(archive, name).decode("utf-8", "replace"))
            if text:
                yield Message(here, text, "note", author, "the documents", date, where, names=author)


def list_chapters(archive: ZipFile, root: ElementTree.Element, package: str) -> list[str]:
    """Names of the parts in the package's spine, but its table of contents and notes by the way."""
    items = {
        each.get("id"): posixpath.normpath(posixpath.join(posixpath.dirname(package), unquote(each.get("href", ""))))
        for each in root.iter()
        if local(each.tag) == "item"
        and "html" in each.get("media-type", "")
        and "nav" not in each.get("properties", "")
    }
    spine = [each for each in root.iter() if local(each.tag) == "itemref" and each.get("linear") != "no"]
    # twice the same chapter would be twice the same text
    names = dict.fromkeys(items[each.get("idref")] for each in spine if each.get("idref") in items)
    return list(names)[:MAX_CHAPTERS]
