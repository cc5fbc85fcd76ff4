"""The text of a file in whatever encoding it is, as far as that is certain."""

import codecs
import re
import unicodedata
from pathlib import Path

from revinst.data.formats import to_utf_8
from revinst.data.unpacked import read_text
from revinst.errors import UserError

MAX_BYTES = 100 << 20  # of a document that is read as a whole; nobody wrote as much in one
# A sign that stands in no Western word: `za¿ó³æ` is Polish in another set of characters.
BETWEEN_LETTERS = re.compile(r"[^\W\d_][\xa1-\xa9\xac\xae-\xb6\xb8\xb9\xbb-\xbf\xd7\xf7]+[^\W\d_]")
NO_TEXT = re.compile(r"[\0-\x08\x0e-\x1a\x1c-\x1f]")
MAX_ACCENTED = 0.4  # of the letters in words of a Western text; all of them are, in Cyrillic read as such


def check_size(path: Path) -> None:
    """Raises UserError for a file that is too large to be one document."""
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES >> 20} MiB, which no document is; split it")


def read_any_text(path: Path, named: str = "") -> str:
    """UTF-8, UTF-16 and UTF-32 where they are certain, `named` (by the file itself), then Latin-1 as Windows has it.

    Raises UserError for what is no text, and for an encoding that nobody can be certain of.
    """
    check_size(path)
    try:
        text = read_text(path)
    except UnicodeError:
        text = read_western(path, named)
    if NO_TEXT.search(text):
        raise UserError(f"{path}: not a text")
    return text


def read_western(path: Path, named: str) -> str:
    content = path.read_bytes()
    try:
        if named and codecs.lookup(named).name not in ("utf-8", "ascii", "iso8859-1"):
            return tidy(content.decode(named))
        text = tidy(content.decode("cp1252"))
    except (ValueError, LookupError):
        raise UserError(f"{path}: not UTF-8; {to_utf_8(path)}") from None
    letters = [letter for letter in text if letter.isalpha()]
    accented = sum(not letter.isascii() for letter in letters)
    if BETWEEN_LETTERS.search(text) or accented > MAX_ACCENTED * len(letters):
        raise UserError(f"{path}: not UTF-8; {to_utf_8(path)}")
    return text


def tidy(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def join_paragraphs(paragraphs: list[str]) -> str:
    """Each after a blank line, in Unicode's composed form; empty ones count for nothing."""
    return unicodedata.normalize("NFC", "\n\n".join(filter(None, map(str.strip, paragraphs))))
