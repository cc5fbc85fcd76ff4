"""Placeholders for what identifies people: addresses, phones, links, long numbers, and the names in mail headers.

The same thing gets the same placeholder everywhere (`[EMAIL_1]`), and `data/redacted.py` puts it back. What stands
behind the placeholders is written to one file beside the output folder, readable by its owner alone, and to no other.
"""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from revinst.data.redacted import PLACEHOLDER
from revinst.runs.files import whole_file

SPACES = r" \u00a0\u2009\u202f"
DASHES = r"\u2010-\u2013\u2212-"
# Lengths are bounded: what begins like an address and is none costs no more than that at each of its letters.
PATTERNS = {
    "TEXT": PLACEHOLDER,  # somebody wrote what looks like one of ours
    "URL": r"(?:\b[a-z][a-z0-9+.-]{0,20}://|\bwww\.|\bmailto:|\b(?:[a-z0-9-]{1,63}\.){1,5}[a-z]{2,24}[/?])"
    r"[^\s<>\"]*[^\s<>\"'.,;:!?)\]}]",
    "EMAIL": r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}",
    "IBAN": rf"\b[A-Z]{{2}}\d{{2}}(?:[{SPACES}-]?[A-Z0-9]{{4}}){{2,7}}(?:[{SPACES}-]?[A-Z0-9]{{1,3}})?\b",
    # A number that is wrapped at the end of a line has three digits and more on either side.
    "DIGITS": rf"(?<!\d)(?<!\d\.)[+(]?\d(?:(?:[{SPACES}\t()/.{DASHES}]{{0,3}}|(?<=\d{{3}})\n(?=\d{{3}}))\d){{5,}}"
    r"(?!\d)",
    "WORD": r"[^\W\d_]+",
}
ANYTHING = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in PATTERNS.items()), re.IGNORECASE)
# Stretches of digits that say when, not who: dates, spans of years, times, small decimals.
WHEN = re.compile(
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\s?\d{1,2}\2\s?\d{2,4}|"
    r"(?:1\d|20)\d\d\s?[-\u2013]\s?(?:1\d|20)\d\d|"
    r"\d{1,2}[.:]\d{2}\s?[-\u2013]\s?\d{1,2}[.:]\d{2}|\d{1,3}(?:\.\d{3})+"
)
MAX_PHONE = 15  # digits, https://www.itu.int/rec/T-REC-E.164
MIN_NAME = 3  # letters; a shorter part of a name counts with a capital alone, in the header and in the text
# Parts of names in headers that are also words: they count as names only with a capital.
ALSO_WORDS = {
    "april", "art", "august", "bill", "chase", "chip", "dean", "drew", "faith", "frank", "grace", "grant", "guy",
    "hope", "iris", "ivy", "jack", "jay", "joy", "june", "lane", "lee", "mark", "max", "may", "miles", "pat",
    "paul", "ray", "rich", "rob", "rose", "ruth", "skip", "sue", "summer", "will", "wolf", "young",
}  # fmt: skip
NO_NAMES = {
    "ag", "and", "co", "da", "de", "der", "di", "dr", "du", "el", "for", "group", "hr", "info", "it", "jr", "kg", "la",
    "le", "list", "mail", "mr", "ms", "office", "recipients", "service", "sr", "st", "support", "team", "the",
    "undisclosed", "us", "van", "via", "von",
}  # fmt: skip


class Redaction:
    """Replaces in text after text; `placeholders` maps each placeholder to what it stands for.

    names: people's full names, whose parts are replaced wherever they stand, however spelt (`zoe`, `ZOE`).
    """

    def __init__(self, names: Iterable[str] = ()):
        self.names = {part.lower() for name in names for part in re.findall(r"[^\W\d_]+", name) if is_name(part)}
        self.placeholders: dict[str, str] = {}
        self.given: dict[tuple[str, str], str] = {}
        self.counts: dict[str, int] = {}

    def redact(self, text: str) -> str:
        return ANYTHING.sub(self.replace, text)

    def replace(self, match: re.Match[str]) -> str:
        kind, value = match.lastgroup or "", match[0]
        if kind == "WORD":
            return self.placeholder("NAME", value) if self.is_named(value) else value
        if kind == "IBAN":
            return self.placeholder("NUMBER", value) if sum(map(str.isdigit, value)) >= 8 else value
        if kind == "DIGITS":
            if WHEN.fullmatch(value):
                return value
            is_phone = re.search(r"\D", value) and sum(map(str.isdigit, value)) <= MAX_PHONE
            return self.placeholder("PHONE" if is_phone else "NUMBER", value)
        return self.placeholder(kind, value)

    def is_named(self, word: str) -> bool:
        """Whether it is part of a header's name; with a capital also its genitive (Quarkingtons Haus)."""
        lower, has_capital = word.lower(), word[0].isupper()
        if has_capital and lower.removesuffix("s") in self.names:
            return True
        return lower in self.names and (has_capital or (lower not in ALSO_WORDS and not is_short(lower)))

    def placeholder(self, kind: str, value: str) -> str:
        if (kind, value) not in self.given:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.given[kind, value] = f"[{kind}_{self.counts[kind]}]"
            self.placeholders[self.given[kind, value]] = value
        return self.given[kind, value]

    def save(self, path: Path) -> None:
        """Writes the placeholders; nobody but the owner may ever read the file (on Windows: whoever may its folder)."""
        with whole_file(path) as temporary:
            temporary.unlink(missing_ok=True)  # of a call that was killed, maybe with other rights
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                json.dump(self.placeholders, file, ensure_ascii=False, indent=1)


def is_name(part: str) -> bool:
    return len(part) > 1 and part.lower() not in NO_NAMES and (part[0].isupper() or not is_short(part))


def is_short(part: str) -> bool:
    return len(part) < MIN_NAME and part.isascii()
