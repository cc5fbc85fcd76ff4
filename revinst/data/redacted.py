"""Placeholders in texts that were redacted (`[EMAIL_1]`), and what they stand for."""

import re
from collections.abc import Mapping
from pathlib import Path

from revinst.errors import UserError
from revinst.runs.files import read_json

PLACEHOLDER = r"\[(?:EMAIL|URL|PHONE|NUMBER|NAME|TEXT)_\d+\]"


def read_placeholders(path: Path) -> dict[str, str]:
    """Placeholder -> what it stands for, as `revinst corpus --redact` wrote it. Raises UserError for another file."""
    placeholders = read_json(path)
    is_map = isinstance(placeholders, dict) and all(
        isinstance(value, str) and re.fullmatch(PLACEHOLDER, name) for name, value in placeholders.items()
    )
    if not is_map:
        raise UserError(f"{path}: no placeholders as revinst corpus --redact writes them, e.g. own.placeholders.json")
    return placeholders


def restore(text: str, placeholders: Mapping[str, str]) -> str:
    """Undoes a redaction; a placeholder that is not in the map stays."""
    return re.sub(PLACEHOLDER, lambda match: placeholders.get(match[0], match[0]), text)
