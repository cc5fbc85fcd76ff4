"""Message, as a source has it; OwnText, which its owner wrote; and the JSONL files that texts lie in between stages."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from revinst.errors import UserError
from revinst.runs.files import whole_file

NOT_MINE, NOT_SENT = "not written by me", "not sent by me"
Record = dict[str, Any]  # a line of a corpus' files: a text and what is known of it by then


@dataclass(slots=True)
class Message:
    """One message or text as its source has it, whoever wrote it.

    where: the file and place it came from. kind: mail, chat, post, note or row (of a table).
    author: all that the source calls its writer (address, name, id), the first of them for people to read; () where it
    names none. source: the kind of export, for people to read. date: ISO 8601 in UTC, "" where unknown.
    conversation: messages with the same one belong together; answers: other names of it, of what this one answers.
    id, reply_to: the name of this message, and of the one that it answers, where its source has such.
    names: people that it names beside its text, for redaction. left_out: why it is no text, whoever wrote it.
    """

    where: str
    text: str
    kind: str
    author: tuple[str, ...] = ()
    source: str = ""
    date: str = ""
    conversation: str = ""
    answers: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    left_out: str = ""
    id: str = ""
    reply_to: str = ""


@dataclass(slots=True)
class OwnText:
    """One text that is mine.

    group: texts with the same one belong together (a thread). author: what its source calls me, "" where it names none.
    context: what it answers, which others wrote; "" where nothing is known of that, or it is not asked for.
    """

    id: str
    where: str
    text: str
    kind: str
    author: str
    date: str
    group: str
    context: str = ""


@dataclass(frozen=True, slots=True)
class NotKept:
    """A message, text or file that was left out, and why."""

    where: str
    reason: str


Ingested = Message | NotKept


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
