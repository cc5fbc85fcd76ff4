"""What readers of CSV files share: the header, which says what a file is, and its rows."""

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from revinst.corpus.tables import read_iso
from revinst.corpus.texts import Ingested, Message, NotKept
from revinst.data.formats import find_delimiter, read_file
from revinst.data.unpacked import open_text

Row = Mapping[str, str]


def has_columns(path: Path, *names: str, only: bool = False) -> bool:
    """Whether a .csv file's header has all of these; only: and no others."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    try:
        delimiter = find_delimiter(path)
        with open_text(path) as text:
            header = next(csv.reader(text, delimiter=delimiter), [])
    except (csv.Error, ValueError, OSError):  # a field without an end, no UTF-8: whoever reads it says so
        return False
    return set(names) == set(header) if only else set(names) <= set(header)


def read_rows(path: Path, where: str, read_row: Callable[[Row, str], Message]) -> Iterator[Ingested]:
    """A message a row; `read_row` gets the row and its place."""
    for place, record in read_file(path):
        here = where + place.removeprefix(str(path))
        yield read_row(record, here) if isinstance(record, dict) else NotKept(here, str(record))


def read_in_order(path: Path, where: str, read_row: Callable[[Row, str], Message]) -> Iterator[Ingested]:
    """The same, oldest first, of files whose newest row is the first; as a whole."""
    yield from sorted(read_rows(path, where, read_row), key=lambda found: getattr(found, "date", ""))


def read_utc(text: str) -> str:
    """`2026-03-02 10:00:00 UTC` as well."""
    return read_iso(text.strip().replace(" UTC", "+00:00"))
