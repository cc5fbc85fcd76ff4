"""What readers of chats in JSON share: the beginning of a file, which says what it is, and all of it."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from revinst.corpus.tables import check_whole
from revinst.errors import UserError

BEGINNING = 1 << 16  # bytes that tell what a file is
Fields = dict[str, object]


def begins_with(path: Path, opening: str | tuple[str, ...], *names: str, suffix: str = ".json") -> bool:
    """Whether a file opens so (white space aside) and has these names near its beginning."""
    if path.suffix.lower() != suffix or not path.is_file():
        return False
    with path.open("rb") as file:
        text = file.read(BEGINNING).decode("utf-8-sig", errors="replace")
    return "".join(text[:1000].split()).startswith(opening) and all(f'"{name}"' in text for name in names)


def load_json(path: Path, repair: Callable[[str], str] = str) -> object:
    """All of a file; `repair` gets its text first. Raises UserError for what is no JSON."""
    check_whole(path)
    try:
        return json.loads(repair(path.read_bytes().decode("utf-8-sig", errors="replace")))
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None


def dicts_in(value: object) -> Iterator[Fields]:
    """The objects of a list, where it is one."""
    yield from (each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()


def object_in(value: object, *names: str) -> Fields:
    """The object under these names, one in the other; {} where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def text_in(fields: Fields, *names: str) -> tuple[str, ...]:
    """Those of the values that are text, each once."""
    values = (fields.get(name) for name in names)
    return tuple(dict.fromkeys(value for value in values if isinstance(value, str) and value.strip()))


def read_seconds(value: object, unit: float = 1) -> str:
    """`"1772445600.000100"` -> `2026-03-02T10:00:00+00:00`; unit: of what is counted, in seconds; "" for no time."""
    try:
        return datetime.fromtimestamp(float(str(value)) * unit, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""


def drop_quotes(text: str) -> str:
    """Without lines that quote somebody."""
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith(">")).strip()
