"""Rows of text as `Example`s: checked one by one, kept in an Arrow file that is read on demand."""

import hashlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from revinst.data.sources import MAX_ROW_BYTES, BadRow, read_rows
from revinst.errors import UserError
from revinst.progress import Stage
from revinst.system import IS_WINDOWS

FIELDS = ("instruction", "context", "response", "category")
REQUIRED = ("instruction", "response")
# Dolly's card: passages from Wikipedia carry such marks, best removed; the space before one goes with it.
CITATION = re.compile(r" ?\[\d{1,3}\]")
Source = str | dict[str, Any] | Sequence[str | dict[str, Any]]
SCHEMA = pa.schema([*((name, pa.large_string()) for name in ("id", *FIELDS)), ("weight", pa.float32())])
BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Example:
    """One pair: somebody asked `instruction` (about `context`, if any) and got `response`."""

    id: str
    instruction: str
    context: str
    response: str
    category: str


@dataclass(frozen=True, slots=True)
class Discarded:
    """A row that was left out, and why."""

    where: str
    reason: str


class Examples(Sequence[Example]):
    """A sequence of Examples over an Arrow table: an Example is made when it is asked for.

    table: columns id, instruction, context, response, category and weight (how often an epoch trains the row). It is
        shared by all that are taken from it, and never copied.
    rows: int64, which of the table's rows these are, in order; None: all of them.
    """

    def __init__(self, table: pa.Table, rows: np.ndarray | None = None):
        self.table = table
        self.rows = np.arange(table.num_rows) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, row: int) -> Example: ...
    @overload
    def __getitem__(self, row: slice) -> "Examples": ...
    def __getitem__(self, row: int | slice) -> "Example | Examples":
        if isinstance(row, slice):
            return Examples(self.table, self.rows[row])
        row = int(self.rows[row])
        return Example(*(self.table.column(name)[row].as_py() for name in ("id", *FIELDS)))

    def __iter__(self) -> Iterator[Example]:
        for block in self.blocks("id", *FIELDS):
            yield from map(Example, *block)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: Sequence[int] | np.ndarray) -> "Examples":
        return Examples(self.table, self.rows[np.asarray(rows, np.int64)])

    def blocks(self, *names: str) -> Iterator[list[list[str]]]:
        """These columns, BLOCK_ROWS rows at a time."""
        columns = self.table.select(names)
        for start in range(0, len(self), BLOCK_ROWS):
            block = take_rows(columns, self.rows[start : start + BLOCK_ROWS])
            yield [block.column(name).to_pylist() for name in names]

    def texts(self, field: str) -> list[str]:
        """One column: id, instruction, context, response or category."""
        return [text for (block,) in self.blocks(field) for text in block]

    @property
    def weights(self) -> np.ndarray:
        """float32 `[num_examples]`."""
        return self.table.column("weight").to_numpy()[self.rows]

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:
        """Row numbers of ids, int64; -1 for an id that is not there."""
        found = pc.index_in(pa.array(ids, pa.large_string()), pa.array(self.texts("id"), pa.large_string()))
        return found.fill_null(-1).to_numpy().astype(np.int64)


def take_rows(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Some rows, in this order. Arrow's own `take` would first copy every column of the table into one piece."""
    batches = table.to_batches()
    starts = np.cumsum([0, *map(len, batches)])
    owner = np.searchsorted(starts, rows, side="right") - 1
    parts = [batches[number].take(pa.array(rows[owner == number] - starts[number])) for number in np.unique(owner)]
    place = np.empty(len(rows), np.int64)
    place[np.argsort(owner, kind="stable")] = np.arange(len(rows))
    return pa.Table.from_batches(parts, table.schema).take(pa.array(place))


def load_examples(
    source: Source,
    columns: dict[str, str] | None = None,
    on_bad_row: str = "stop",
    needs: tuple[str, ...] = REQUIRED,
    context: str = "drop",
    strip_citations: bool = False,
) -> tuple[Examples, list[Discarded]]:
    """Reads every row of `source`, and what was left out.

    source: `quickstart` (the rows shipped with revinst), a jsonl, json, csv or parquet file, a folder of them,
        a `datasets` folder, a hub id, or a list of these; `{source: FILE, weight: 2}` trains its rows twice an epoch,
        a weight below 1 that share of them.
    columns: our field -> the source's column, where they differ, e.g. `{"instruction": "prompt"}`.
    on_bad_row: `stop` raises at the first bad row; `skip` leaves it out and returns it in the second list.
    needs: the fields that may not be empty.
    context: `exclude_rows` leaves out rows that have one.
    strip_citations: removes marks such as [12] from responses and contexts.

    Raises UserError naming file and line.
    """
    checked = CheckedRows(check_columns(columns or {}), on_bad_row, needs, context, strip_citations)
    # A file that is unlinked at once: rows take no memory but the page cache, and nothing is left behind.
    descriptor, file = tempfile.mkstemp(prefix="revinst-rows-", suffix=".arrow")
    os.close(descriptor)
    try:
        with pa.OSFile(file, "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            for name, weight in list_sources(source):
                rows = checked.read(name)
                with Stage(f"reading {name}", unit="rows", brief=True) as stage:
                    while block := list(islice(rows, BLOCK_ROWS)):
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
    rows = [asdict(example) | {"weight": 1.0} for example in examples]
    return Examples(pa.Table.from_pylist(rows, schema=SCHEMA))


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


class CheckedRows:
    """Rows that became Examples, with unique ids over all sources; the others in `discarded`, each with a reason."""

    def __init__(
        self, columns: dict[str, str], on_bad_row: str, needs: tuple[str, ...], context: str, strip_citations: bool
    ):
        self.columns, self.on_bad_row, self.needs = columns, on_bad_row, needs
        self.context, self.strip_citations = context, strip_citations
        self.repeats: Counter[str] = Counter()
        self.discarded: list[Discarded] = []

    def read(self, name: str) -> Iterator[Example]:
        number = -1
        for number, (where, row) in enumerate(read_rows(name)):  # noqa: B007
            try:
                if isinstance(row, BadRow):
                    raise row
                example = build_example(row, self.columns, self.needs, self.strip_citations)
            except BadRow as reason:
                if self.on_bad_row == "stop":
                    raise UserError(f"{where}: {reason}; mend the row or set data.on_bad_row: skip") from None
                self.discarded.append(Discarded(where, str(reason)))
                continue
            if self.context == "exclude_rows" and example.context:
                self.discarded.append(Discarded(where, "has a context"))
                continue
            yield replace(example, id=make_unique(example.id, self.repeats))
        if number < 0:
            raise UserError(f"{name}: no rows in it; give a file with at least one")


def build_text(text: str, strip_citations: bool, row_id: str = "") -> Example:
    """A text alone, prepared as the response of a row is. Raises BadRow."""
    return build_example({"id": row_id, "response": text}, check_columns({}), ("response",), strip_citations)


def strip_marks(example: Example) -> Example:
    """Without citation marks. Raises BadRow where the response is nothing else."""
    response = CITATION.sub("", example.response).strip()
    if example.response and not response:
        raise BadRow("the response holds nothing but citation marks")
    return replace(example, response=response, context=CITATION.sub("", example.context).strip())


def make_unique(row_id: str, repeats: Counter[str]) -> str:
    """`row_id`, or with -2, -3, ... if `repeats` holds it already: `a a a-2` -> `a a-2 a-2-2`."""
    unique_id = row_id
    while unique_id in repeats:
        repeats[row_id] += 1
        unique_id = f"{row_id}-{repeats[row_id]}"
    repeats[unique_id] = 1
    return unique_id


def check_columns(columns: dict[str, str]) -> dict[str, str]:
    """Field -> column for every field; unknown fields are refused."""
    unknown = set(columns) - {*FIELDS, "id"}
    if unknown:
        raise UserError(f"data.columns: unknown field {sorted(unknown)[0]!r}; choose from {', '.join(FIELDS)}, id")
    return {field: columns.get(field, field) for field in (*FIELDS, "id")}


def find_columns(row: Any, columns: dict[str, str]) -> dict[str, str]:
    """The columns that a row of another file has: those of `columns`, or where it lacks one the field's own name."""
    return {field: name if isinstance(row, dict) and name in row else field for field, name in columns.items()}


def build_example(
    row: Any, columns: dict[str, str], needs: tuple[str, ...] = REQUIRED, strip_citations: bool = False
) -> Example:
    """One row as training, evaluation and generation read it: types and content checked, without space around texts.

    strip_citations: and without marks such as [12]. Raises BadRow with the reason.
    """
    if not isinstance(row, dict):
        raise BadRow(f"a row must be an object with named fields, this is {type(row).__name__}")
    texts = {}
    for field in FIELDS:
        column = columns[field]
        value = row.get(column)
        if value is None:
            # a column that the config names must exist; one that is only Dolly's may be missing
            if column not in row and (field in needs or column != field):
                found = ", ".join(map(str, row)) or "none"
                raise BadRow(
                    f"no column {column!r} (it has {found}); name the file's own in data.columns, "
                    "as in --data.columns '{instruction: prompt, response: text}'"
                )
            value = ""
        if not isinstance(value, str):
            raise BadRow(f"{column!r} must be text, is {type(value).__name__}")
        texts[field] = check_text(value.strip(), column)
    for field in needs:
        if not texts[field]:
            raise BadRow(f"{columns[field]!r} is empty")
    given_id = row.get(columns["id"])
    if given_id is not None and not isinstance(given_id, str | int):
        raise BadRow(f"{columns['id']!r} must be text or a whole number")
    has_id = given_id is not None and given_id != ""  # an empty cell of a CSV file is no id
    row_id = check_text(str(given_id), columns["id"]) if has_id else content_id(texts)
    example = Example(id=row_id, **texts)
    return strip_marks(example) if strip_citations else example


def check_text(text: str, column: str) -> str:
    if "\0" in text:
        raise BadRow(f"{column!r} holds a NUL byte")
    if len(text) > MAX_ROW_BYTES:
        raise BadRow(f"{column!r} is {len(text):,} characters long, more than {MAX_ROW_BYTES:,}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{column!r} is not valid Unicode (a lone surrogate)") from None
    return text


def content_id(texts: dict[str, str]) -> str:
    """16 hex digits of SHA-256 over instruction, context and response; NUL separates (no text holds one)."""
    content = "\0".join(texts[field] for field in ("instruction", "context", "response"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def count_categories(examples: Iterable[Example]) -> dict[str, int]:
    """Category -> number of examples, largest first."""
    return dict(Counter(example.category for example in examples).most_common())
