"""Examples of all sources: checked one by one, kept in an Arrow file that is read on demand."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from revinst.data.examples import FIELDS, REQUIRED, Example, build_example, check_columns, make_unique
from revinst.data.formats import BadRecord
from revinst.data.messages import count_requests
from revinst.data.sources import read_records, say
from revinst.errors import UserError
from revinst.progress import Stage
from revinst.system import IS_WINDOWS

Source = str | dict[str, Any] | Sequence[str | dict[str, Any]]
SCHEMA = pa.schema([*((name, pa.large_string()) for name in ("id", *FIELDS)), ("weight", pa.float32())])
READ_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Discarded:
    """A record that was left out, and why."""

    where: str
    reason: str


class Examples(Sequence[Example]):
    """A sequence of Examples over an Arrow table: an Example is made when it is asked for.

    table: columns id, instruction, context, response, category and weight (how often an epoch trains it). It is
        shared by all that are taken from it, and never copied.
    numbers: int64, which of the table's rows these are, in order; None: all of them.
    """

    def __init__(self, table: pa.Table, numbers: np.ndarray | None = None):
        self.table = table
        self.numbers = np.arange(table.num_rows) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, number: int) -> Example: ...
    @overload
    def __getitem__(self, number: slice) -> "Examples": ...
    def __getitem__(self, number: int | slice) -> "Example | Examples":
        if isinstance(number, slice):
            return Examples(self.table, self.numbers[number])
        number = int(self.numbers[number])
        return Example(*(self.table.column(name)[number].as_py() for name in ("id", *FIELDS)))

    def __iter__(self) -> Iterator[Example]:
        for block in self.blocks("id", *FIELDS):
            yield from map(Example, *block)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, numbers: Sequence[int] | np.ndarray) -> "Examples":
        return Examples(self.table, self.numbers[np.asarray(numbers, np.int64)])

    def blocks(self, *names: str) -> Iterator[list[list[str]]]:
        """These columns, READ_AT_ONCE examples at a time."""
        columns = self.table.select(names)
        for start in range(0, len(self), READ_AT_ONCE):
            block = take_from_table(columns, self.numbers[start : start + READ_AT_ONCE])
            yield [block.column(name).to_pylist() for name in names]

    def texts(self, field: str) -> list[str]:
        """One column: id, instruction, context, response or category."""
        return [text for (block,) in self.blocks(field) for text in block]

    @property
    def weights(self) -> np.ndarray:
        """float32 `[num_examples]`."""
        return self.table.column("weight").to_numpy()[self.numbers]

    def numbers_of(self, ids: Sequence[str]) -> np.ndarray:
        """Numbers of the examples with these ids, int64; -1 for an id that is not there."""
        found = pc.index_in(pa.array(ids, pa.large_string()), pa.array(self.texts("id"), pa.large_string()))
        return found.fill_null(-1).to_numpy().astype(np.int64)


def take_from_table(table: pa.Table, numbers: np.ndarray) -> pa.Table:
    """Some rows, in this order. Arrow's own `take` would first copy every column of the table into one piece."""
    batches = table.to_batches()
    starts = np.cumsum([0, *map(len, batches)])
    owner = np.searchsorted(starts, numbers, side="right") - 1
    parts = [batches[number].take(pa.array(numbers[owner == number] - starts[number])) for number in np.unique(owner)]
    place = np.empty(len(numbers), np.int64)
    place[np.argsort(owner, kind="stable")] = np.arange(len(numbers))
    return pa.Table.from_batches(parts, table.schema).take(pa.array(place))


def load_examples(
    source: Source,
    columns: dict[str, str] | None = None,
    on_bad_row: str = "stop",
    needs: tuple[str, ...] = REQUIRED,
    context: str = "drop",
    strip_citations: bool = False,
) -> tuple[Examples, list[Discarded]]:
    """Reads every record of `source`, and what was left out.

    source: `quickstart` or `multilingual` (rows shipped with revinst), a file, a folder, a hub id (docs/sources.md),
        or a list of these; `{source: FILE, weight: 2}` trains its rows twice an epoch, a weight below 1 that share of
        them.
    columns: our field -> the source's column, where they differ, e.g. `{"instruction": "prompt"}`, or COLUMN.ROLE for
        a list of messages.
    on_bad_row: `stop` raises at the first bad record; `skip` leaves it out and returns it in the second list.
    needs: the fields that may not be empty.
    context: `exclude_rows` leaves out records that have one.
    strip_citations: removes marks such as [12] from responses and contexts.

    Raises UserError naming file and line.
    """
    checked = CheckedRecords(check_columns(columns or {}), on_bad_row, needs, context, strip_citations)
    # A file that is unlinked at once: examples take no memory but the page cache, and nothing is left behind.
    descriptor, file = tempfile.mkstemp(prefix="revinst-rows-", suffix=".arrow")
    os.close(descriptor)
    try:
        with pa.OSFile(file, "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            for name, weight in list_sources(source):
                examples = checked.read(name)
                with Stage(f"reading {name}", unit="rows", brief=True) as stage:
                    while block := list(islice(examples, READ_AT_ONCE)):
                        arrays = [
                            pa.array([getattr(example, field) for example in block], pa.large_string())
                            for field in ("id", *FIELDS)
                        ]
                        arrays.append(pa.array([weight] * len(block), pa.float32()))
                        writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))
                        stage.advance(len(block))
        table = read_table(file)
    finally:
        os.unlink(file)
    return Examples(table), checked.discarded


def read_table(file: str) -> pa.Table:
    """Mapped into memory; read into it on Windows, which deletes no file that is mapped."""
    if not IS_WINDOWS:
        return pa.ipc.open_file(pa.memory_map(file)).read_all()
    with pa.OSFile(file) as source:
        return pa.ipc.open_file(source).read_all()


def build_examples(examples: Iterable[Example]) -> Examples:
    """Examples that are in memory already, as a table."""
    lines = [asdict(example) | {"weight": 1.0} for example in examples]
    return Examples(pa.Table.from_pylist(lines, schema=SCHEMA))


def list_sources(source: Source) -> list[tuple[str, float]]:
    """(name, weight) of each source. Raises UserError for an entry that is neither a name nor {source, weight}."""
    named = []
    for entry in [source] if isinstance(source, str | dict) else source:
        if isinstance(entry, str):
            named.append((entry, 1.0))
            continue
        name, weight = entry.get("source"), entry.get("weight", 1.0)
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not isinstance(name, str) or set(entry) - {"source", "weight"} or not is_number or not 0 < weight < 1000:
            raise UserError(f"data.source: {entry} must be {{source: NAME, weight: NUMBER above 0}}")
        named.append((name, float(weight)))
    if not named:
        raise UserError("data.source is an empty list; name at least one source")
    return named


class CheckedRecords:
    """Records that became Examples, with unique ids over all sources; the others in `discarded`, each with a reason."""

    def __init__(
        self, columns: dict[str, str], on_bad_row: str, needs: tuple[str, ...], context: str, strip_citations: bool
    ):
        self.columns, self.on_bad_row, self.needs = columns, on_bad_row, needs
        self.context, self.strip_citations = context, strip_citations
        self.repeats: Counter[str] = Counter()
        self.discarded: list[Discarded] = []

    def read(self, name: str) -> Iterator[Example]:
        number, longer = -1, 0
        for number, (where, record) in enumerate(read_records(name)):  # noqa: B007
            try:
                if isinstance(record, BadRecord):
                    raise record
                example = build_example(record, self.columns, self.needs, self.strip_citations)
            except BadRecord as reason:
                if self.on_bad_row == "stop":
                    raise UserError(f"{where}: {reason}; mend the row or set data.on_bad_row: skip") from None
                self.discarded.append(Discarded(where, str(reason)))
                continue
            if self.context == "exclude_rows" and example.context:
                self.discarded.append(Discarded(where, "has a context"))
                continue
            longer += count_requests(record, self.columns) > 1
            yield replace(example, id=make_unique(example.id, self.repeats))
        if longer:
            say(f"{name}: conversations of more than one request, cut after the first answer: {longer:,}")
        if number < 0:
            raise UserError(f"{name}: no rows in it; give a file with at least one")


def count_categories(examples: Iterable[Example]) -> dict[str, int]:
    """Category -> number of examples, largest first."""
    return dict(Counter(example.category for example in examples).most_common())
