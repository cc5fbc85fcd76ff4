"""Rows of text from a hub data set, a folder or a file, as `Example`s."""

import csv
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from revinst.errors import UserError

FIELDS = ("instruction", "context", "response", "category")
REQUIRED = ("instruction", "response")
FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
MAX_ROW_BYTES = 10_000_000


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


class BadRow(ValueError):
    """Why a row can't become an `Example`; `load_examples` adds where."""


def load_examples(
    source: str | list[str],
    columns: dict[str, str] | None = None,
    on_bad_row: str = "stop",
    needs: tuple[str, ...] = REQUIRED,
) -> tuple[list[Example], list[Discarded]]:
    """Reads every row of `source`.

    source: `quickstart` (the rows shipped with revinst), a jsonl, json, csv or parquet file, a folder of them,
        a `datasets` folder, a hub id, or a list of these.
    columns: our field -> the source's column, where they differ, e.g. `{"instruction": "prompt"}`.
    on_bad_row: `stop` raises at the first bad row; `skip` leaves it out and returns it in the second list.
    needs: the fields that may not be empty.

    Raises UserError naming file and line.
    """
    columns = check_columns(columns or {})
    examples: list[Example] = []
    discarded: list[Discarded] = []
    repeats: Counter[str] = Counter()
    for name in [source] if isinstance(source, str) else source:
        before = len(examples) + len(discarded)
        for where, row in read_rows(name):
            try:
                if isinstance(row, BadRow):
                    raise row
                example = build_example(row, columns, needs)
            except BadRow as reason:
                if on_bad_row == "stop":
                    raise UserError(f"{where}: {reason}; mend the row or set data.on_bad_row: skip") from None
                discarded.append(Discarded(where, str(reason)))
                continue
            examples.append(replace(example, id=make_unique(example.id, repeats)))
        if len(examples) + len(discarded) == before:
            raise UserError(f"{name}: no rows in it; give a file with at least one")
    return examples, discarded


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


def build_example(row: Any, columns: dict[str, str], needs: tuple[str, ...] = REQUIRED) -> Example:
    """Checks one row's types and content. Raises BadRow with the reason."""
    if not isinstance(row, dict):
        raise BadRow(f"a row must be an object with named fields, this is {type(row).__name__}")
    texts = {}
    for field in FIELDS:
        column = columns[field]
        value = row.get(column)
        if value is None:
            if field in needs and column not in row:
                raise BadRow(f"no column {column!r} (it has {', '.join(map(str, row)) or 'none'}); set data.columns")
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
    return Example(id=row_id, **texts)


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


def read_rows(name: str) -> Iterator[tuple[str, Any]]:
    """Yields (where, row) for each row of one source; a row that can't be parsed comes as a BadRow."""
    if name == "quickstart":
        yield from read_file(Path(str(files("revinst.data").joinpath("quickstart.jsonl"))))
        return
    path = Path(name).expanduser()
    if path.is_file():
        yield from read_file(path)
    elif path.is_dir():
        yield from read_folder(path)
    elif path.suffix in FILE_SUFFIXES or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(f"{name}: no such file or folder; check data.source")
    else:
        yield from read_hub(name)


def read_folder(path: Path) -> Iterator[tuple[str, Any]]:
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        from datasets import DatasetDict, load_from_disk

        dataset = load_from_disk(str(path))
        parts = dataset.items() if isinstance(dataset, DatasetDict) else [("train", dataset)]
        for part, rows in parts:
            yield from ((f"{path}[{part}]:{number}", row) for number, row in enumerate(rows))
        return
    found = sorted(file for file in path.iterdir() if file.suffix in FILE_SUFFIXES)
    if not found:
        raise UserError(f"{path}: no {', '.join(FILE_SUFFIXES)} file in this folder")
    for file in found:
        yield from read_file(file)


def read_hub(name: str) -> Iterator[tuple[str, Any]]:
    from datasets import load_dataset

    try:
        rows = load_dataset(name, split="train")
    except Exception as error:  # the hub client raises many kinds: offline, unknown id, gated, no such split
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"{name}: neither a file nor a data set that the hub gave ({reason})") from error
    yield from ((f"{name}:{number}", row) for number, row in enumerate(rows))


def read_file(path: Path) -> Iterator[tuple[str, Any]]:
    readers = {".jsonl": read_jsonl, ".json": read_json, ".csv": read_csv, ".parquet": read_parquet}
    reader = readers.get(path.suffix)
    if reader is None:
        raise UserError(f"{path}: unknown kind of file {path.suffix!r}; give {', '.join(FILE_SUFFIXES)}")
    try:
        yield from reader(path)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from error


def read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"{path}:{number}", parse_json_line(line)


def parse_json_line(line: bytes) -> Any:
    if len(line) > MAX_ROW_BYTES:
        return BadRow(f"the line is {len(line):,} bytes long, more than {MAX_ROW_BYTES:,}")
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return BadRow(f"not UTF-8 (byte {error.start})")
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of too many digits
        return BadRow(f"not JSON ({error})")


def read_json(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(rows, list):
        raise UserError(f"{path}: a .json file must hold one list of rows; one row a line belongs in .jsonl")
    yield from ((f"{path}[{number}]", row) for number, row in enumerate(rows))


def read_csv(path: Path) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                where = f"{path}:{reader.line_num}"
                short_or_long = None in row or None in row.values()
                yield where, BadRow("another number of columns than the header") if short_or_long else row
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path}:{reader.line_num}: not a CSV file in UTF-8 ({error})") from None


def read_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        for batch in pq.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                yield f"{path}[{number}]", row
                number += 1
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from None


def count_categories(examples: Iterable[Example]) -> dict[str, int]:
    """Category -> number of examples, largest first."""
    return dict(Counter(example.category for example in examples).most_common())
