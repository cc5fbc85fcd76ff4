"""Placeholders in texts that were redacted (`[EMAIL_1]`), what they stand for, and which own texts were not."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from revinst.errors import UserError
from revinst.runs.files import read_json

PLACEHOLDER = r"\[(?:EMAIL|URL|PHONE|NUMBER|NAME|HANDLE|ADDRESS|TEXT)_\d+\]"


def read_placeholders(path: Path) -> dict[str, str]:
    """Placeholder -> what it stands for, as `revinst corpus --redact` wrote it. Raises UserError for another file."""
    placeholders = read_json(path)
    is_map = isinstance(placeholders, dict) and all(
        isinstance(value, str) and re.fullmatch(PLACEHOLDER, name) for name, value in placeholders.items()
    )
    if not is_map:
        raise UserError(f"{path}: no placeholders as revinst corpus --redact writes them, e.g. own.placeholders.json")
    return placeholders


def read_strings(path: Path) -> dict[str, str]:
    """Name -> private string, of a redaction or the user's own. Raises UserError for another file."""
    strings = read_json(path)
    if not isinstance(strings, dict) or not all(isinstance(value, str) for value in strings.values()):
        raise UserError(f"{path}: no strings by name, as in own.placeholders.json")
    return strings


def restore(text: str, placeholders: Mapping[str, str]) -> str:
    """Undoes a redaction; a placeholder that is not in the map stays."""
    return re.sub(PLACEHOLDER, lambda match: placeholders.get(match[0], match[0]), text)


def corpus_settings(folder: Path) -> Iterator[dict[str, object]]:
    """How `revinst corpus` made it, by each file that says so."""
    for name in ("settings.json", "card.json"):
        try:
            found = read_json(folder / name)
        except UserError:  # none, or somebody else's
            continue
        settings = found.get("settings", found) if isinstance(found, dict) else {}
        if isinstance(settings, dict) and {"column", "redact"} <= settings.keys():
            yield settings


def is_unredacted(folder: Path) -> bool:
    """Whether `revinst corpus` made it, without --redact."""
    return any(not settings["redact"] for settings in corpus_settings(folder))


def has_contexts(folder: Path) -> bool:
    """Whether `revinst corpus --context` made it: with what others wrote."""
    return any(settings.get("contexts") for settings in corpus_settings(folder))


def find_unredacted(sources: Iterable[str]) -> list[str]:
    """Those that are files of a corpus without --redact, or of one of its rounds."""
    return [name for name in sources if any(map(is_unredacted, Path(name).absolute().parents))]
