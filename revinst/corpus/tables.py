"""Rows of JSON lines, CSV and Parquet files to the stream of messages."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from revinst.corpus.texts import Ingested, Message, NotKept
from revinst.data.formats import BadRecord, read_file
from revinst.errors import UserError

MAX_WHOLE = 1 << 30  # bytes of a file that is read as a whole, in four times as many
# Columns that say who wrote a row, in the order in which they count.
AUTHOR_COLUMNS = (
    "author", "sender", "from", "user", "username", "author_name", "sender_name", "from_name", "user_name", "user_id",
    "sender_id", "author_id", "from_id", "creator", "role",
)  # fmt: skip


def check_whole(path: Path) -> None:
    """Raises UserError for a file that is too large to be read as a whole."""
    if path.stat().st_size > MAX_WHOLE:
        raise UserError(f"{path}: larger than {MAX_WHOLE >> 20} MiB, and it is read as a whole; export less at once")


def read_table(path: Path, where: str, column: str) -> Iterator[Ingested]:
    """A file that names an author in one row does so in all: what it has of nobody is not mine."""
    if path.suffix.lower() == ".json":
        check_whole(path)
    names_authors = any(read_authors(record) for _, record in read_file(path))
    for place, record in read_file(path):
        here = where + place.removeprefix(str(path))
        if isinstance(record, BadRecord):
            yield NotKept(here, str(record))
            continue
        fields = record if isinstance(record, dict) else {}
        author, value = read_authors(fields), fields.get(column)
        if names_authors and not author:
            yield NotKept(here, "it names no author, and others in the file do")
        elif not isinstance(value, str):
            yield NotKept(here, f"no text in the column {column!r}")
        else:
            group = here if fields.get("group") in (None, "") else str(fields["group"])
            date = read_iso(fields.get("date"))
            yield Message(here, value.strip(), "row", author, "a table", date, group, names=author)


def read_authors(record: object) -> tuple[str, ...]:
    """What the columns for it call the writer; () for a row without such."""
    fields = {str(name).lower(): value for name, value in record.items()} if isinstance(record, dict) else {}
    values = (fields.get(name) for name in AUTHOR_COLUMNS)
    return tuple(dict.fromkeys(str(value) for value in values if isinstance(value, str | int) and str(value).strip()))


def read_iso(value: object) -> str:
    """A date column in UTC; "" for what is no ISO 8601 date."""
    try:
        date = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return ""
