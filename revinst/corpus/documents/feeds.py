"""XML files of many texts, Evernote's and WordPress's, one text after the other whatever their size."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from revinst.corpus.documents.zipped_xml import local

HEAD_BYTES = 1 << 14


def begins_with(path: Path, suffix: str, *marks: bytes) -> bool:
    """Whether a file of this suffix has one of the marks in its beginning."""
    if path.suffix.lower() != suffix or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return any(mark in head for mark in marks)


def stream_elements(path: Path, *names: str) -> Iterator[ElementTree.Element]:
    """Elements of these names, each whole and then forgotten. Raises ElementTree.ParseError."""
    open_ones: list[ElementTree.Element] = []
    for event, element in ElementTree.iterparse(path, events=("start", "end")):
        if event == "start":
            open_ones.append(element)
            continue
        open_ones.pop()
        name = local(element.tag)
        if name in names:
            yield element
        if name in names or name in ("resource", "data", "recognition"):  # what a note carries may be gigabytes
            element.clear()
            if open_ones:
                open_ones[-1].remove(element)


def read_fields(element: ElementTree.Element) -> dict[str, str]:
    """Texts of an element's children by their names, namespaces left out but in WordPress's two `encoded`."""
    found: dict[str, str] = {}
    for child in element:
        name = "excerpt" if "excerpt" in child.tag else local(child.tag)
        found.setdefault(name, (child.text or "").strip())
    return found
