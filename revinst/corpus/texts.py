"""OwnText: one text that its owner wrote, and the JSONL files that texts lie in between stages."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from revinst.data.examples import check_text
from revinst.data.formats import BadRecord
from revinst.errors import UserError
from revinst.runs.files import whole_file

Record = dict[str, Any]  # a line of a corpus' files: a text and what is known of it by then


@dataclass(slots=True)
class OwnText:
    """One text.

    where: the file and place it came from. kind: mail, post, note or row (of a table).
    date: ISO 8601 in UTC, "" where unknown. group: texts with the same one belong together (a thread).
    names: people named in its headers, for redaction; never written to the output.
    """

    where: str
    text: str
    kind: str
    date: str = ""
    group: str = ""
    id: str = ""
    names: tuple[str, ...] = ()

    def to_record(self) -> dict[str, str]:
        return {
            "id": self.id,
            "where": self.where,
            "kind": self.kind,
            "date": self.date,
            "group": self.group,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class NotKept:
    """A message or text that was left out, and why."""

    where: str
    reason: str


Ingested = OwnText | NotKept


def check_note(text: OwnText) -> Ingested:
    try:
        check_text(text.text, "the text")
    except BadRecord as error:
        return NotKept(text.where, str(error))
    return text if text.text else NotKept(text.where, "empty")


class RecordFile(Sequence[Record]):
    """A JSONL file as a sequence: 8 bytes a record in memory, a record is read when it is asked for."""

    def __init__(self, path: Path):
        self.path = path
        starts, place = [], 0
        with path.open("rb") as lines:
            for line in lines:
                starts.append(place)
                place += len(line)
        self.starts = np.array(starts, dtype=np.int64)
        self.file = path.open("rb")

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, number: int) -> Record: ...
    @overload
    def __getitem__(self, number: slice) -> list[Record]: ...
    def __getitem__(self, number: int | slice) -> Record | list[Record]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        self.file.seek(int(self.starts[number]))
        return self.parse(self.file.readline())

    def __iter__(self) -> Iterator[Record]:
        with self.path.open("rb") as lines:
            yield from map(self.parse, lines)

    def parse(self, line: bytes) -> Record:
        try:
            return json.loads(line)
        except ValueError as error:
            raise UserError(
                f"{self.path}: a damaged line ({error}); delete the output folder and start again"
            ) from None

    def close(self) -> None:
        self.file.close()


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Writes records one a line, as a whole or not at all; returns how many."""
    count = 0
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count
