"""One record of a source to an `Example`: types and content checked, marks stripped, an id that is unique."""

import hashlib
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, time, timedelta
from decimal import Decimal
from math import isfinite

from revinst.data.formats import MAX_RECORD_BYTES, BadRecord
from revinst.data.invisible import clean_name, is_blank
from revinst.data.messages import has_column, open_messages, suggest_columns
from revinst.data.placeholders import is_placeholder
from revinst.errors import UserError

FIELDS = ("instruction", "context", "response", "category")
REQUIRED = ("instruction", "response")
# Dolly's card: passages from Wikipedia carry such marks, best removed; the space before one goes with it.
CITATION = re.compile(r" ?\[\d{1,3}\]")


@dataclass(frozen=True, slots=True)
class Example:
    """One pair: somebody asked `instruction` (about `context`, if any) and got `response`."""

    id: str
    instruction: str
    context: str
    response: str
    category: str


def build_text(text: str, strip_citations: bool, example_id: str = "", field: str = "response") -> Example:
    """A text alone, prepared as that field of a record is. Raises BadRecord."""
    return build_example({"id": example_id, field: text}, check_columns({}), (field,), strip_citations)


def strip_marks(example: Example) -> Example:
    """Without citation marks. Raises BadRecord where the response is nothing else."""
    response = CITATION.sub("", example.response).strip()
    if example.response and not response:
        raise BadRecord("the response holds nothing but citation marks")
    return replace(example, response=response, context=CITATION.sub("", example.context).strip())


def make_unique(example_id: str, repeats: Counter[str]) -> str:
    """`example_id`, or with -2, -3, ... if `repeats` holds it already: `a a a-2` -> `a a-2 a-2-2`."""
    unique_id = example_id
    while unique_id in repeats:
        repeats[example_id] += 1
        unique_id = f"{example_id}-{repeats[example_id]}"
    repeats[unique_id] = 1
    return unique_id


def check_columns(columns: dict[str, str]) -> dict[str, str]:
    """Field -> column for every field, named as it reads; unknown fields are refused."""
    columns = {field: clean_name(name) for field, name in columns.items()}
    unknown = set(columns) - {*FIELDS, "id"}
    if unknown:
        raise UserError(f"data.columns: unknown field {sorted(unknown)[0]!r}; choose from {', '.join(FIELDS)}, id")
    return {field: columns.get(field, field) for field in (*FIELDS, "id")}


def find_columns(record: object, columns: dict[str, str]) -> dict[str, str]:
    """The columns that a record of another file has: those of `columns`, or where it lacks one the field's own name."""
    return {field: name if has_column(record, name) else field for field, name in columns.items()}


def build_example(
    record: object, columns: dict[str, str], needs: tuple[str, ...] = REQUIRED, strip_citations: bool = False
) -> Example:
    """One record as training, evaluation and generation read it: types and content checked, without space around texts.

    strip_citations: and without marks such as [12]. Raises BadRecord with the reason.
    """
    if not isinstance(record, dict):
        raise BadRecord(f"a row must be an object with named fields, this is {type(record).__name__}")
    row = open_messages(record, columns)
    texts = {}
    for field in FIELDS:
        column = columns[field]
        # a column that the config names must exist; one that is only Dolly's may be missing
        if column not in row and (field in needs or column != field):
            found = ", ".join(map(str, record)) or "none"
            raise BadRecord(
                f"no column {column!r} (it has {found}); name the file's own in data.columns, "
                f"as in --data.columns '{suggest_columns(record)}'"
            )
        texts[field] = read_text(row.get(column), field, column)
    for field in needs:
        if not texts[field]:
            raise BadRecord(f"{columns[field]!r} is empty")
    example_id = read_id(row.get(columns["id"]), columns["id"]) or content_id(texts)
    if is_placeholder(texts["context"]):
        texts["context"] = ""
    example = Example(id=example_id, **texts)
    return strip_marks(example) if strip_citations else example


def read_text(value: object, field: str, column: str) -> str:
    """A field's text; "" where nothing is to be seen. An optional field's numbers, dates and lists are spelt."""
    if field not in REQUIRED:
        value = spell(value, ", " if field == "category" else "\n")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecord(f"{column!r} must be text, is {type(value).__name__}")
    text = check_text(value.strip(), column)
    return "" if is_blank(text) else text


def spell(value: object, between: str) -> object:
    """`3.0` -> `"3"`, `["a", None, 2]` -> `"a, 2"`; not a number -> None; what has no such spelling stays."""
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float | Decimal | date | time | timedelta):
        return str(value)
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
    if isinstance(value, list):
        parts = [part for part in (spell(each, between) for each in value) if part is not None]
        return between.join(map(str, parts)) if all(isinstance(part, str) for part in parts) else value
    return value


def read_id(value: object, column: str) -> str:
    """ "" where there is none: null, an empty cell of a CSV file, or what a table of numbers has instead."""
    value = value if isinstance(value, list) else spell(value, "")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecord(f"{column!r} must be text or a whole number")
    text = check_text(value.strip(), column)
    return "" if is_blank(text) else text


def check_text(text: str, column: str) -> str:
    if "\0" in text:
        raise BadRecord(f"{column!r} holds a NUL byte")
    if len(text) > MAX_RECORD_BYTES:
        raise BadRecord(f"{column!r} is {len(text):,} characters long, more than {MAX_RECORD_BYTES:,}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRecord(f"{column!r} is not valid Unicode (a lone surrogate)") from None
    return text


def content_id(texts: dict[str, str]) -> str:
    """16 hex digits of SHA-256 over instruction, context and response; NUL separates (no text holds one)."""
    content = "\0".join(texts[field] for field in ("instruction", "context", "response"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]
