"""Placeholders for what identifies people: addresses, phones, links, handles, long numbers, houses and names.

The same thing gets the same placeholder everywhere (`[EMAIL_1]`), and `data/redacted.py` puts it back. What stands
behind the placeholders is written to one file beside the output folder, readable by its owner alone, and to no other.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from revinst.corpus.names import Names, load_words
from revinst.corpus.numbers import has_account_check, kind_of_number
from revinst.corpus.street import STREET
from revinst.data.redacted import PLACEHOLDER
from revinst.runs.files import write_private

SPACES = r" \u00a0\u2009\u202f"
DASHES = r"\u2010-\u2013\u2212-"
# Lengths are bounded: what begins like an address and is none costs no more than that at each of its letters.
PATTERNS = {
    "TEXT": PLACEHOLDER,  # somebody wrote what looks like one of ours
    "URL": r"(?:\b[a-z][a-z0-9+.-]{0,20}://|\bwww\.|\bmailto:|\b(?:[a-z0-9-]{1,63}\.){1,5}[a-z]{2,24}[/?])"
    r"[^\s<>\"]*[^\s<>\"'.,;:!?)\]}]",
    "EMAIL": r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}",
    "HANDLE": r"(?<![\w@./])(?:@[^\W\d]\w{1,30}+(?:[.-]\w{1,30}+){0,3}+(?![\w({=])|/?u/[\w-]{3,20})",
    "IBAN": rf"\b[A-Z]{{2}}\d{{2}}(?:[{SPACES}-]?[A-Z0-9]{{4}}){{2,7}}(?:[{SPACES}-]?[A-Z0-9]{{1,3}})?\b",
    # A number that is wrapped at the end of a line has three digits and more on either side.
    "DIGITS": rf"(?<!\d)(?<!\d\.)[+(]?\d(?:(?:[{SPACES}\t()/.{DASHES}]{{0,3}}|(?<=\d{{3}})\n(?=\d{{3}}))\d){{5,}}"
    r"(?!\d)",
    "WORD": r"[^\W\d_]+",
}
ANYTHING = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in PATTERNS.items()), re.IGNORECASE)
DIGITS = re.compile(PATTERNS["DIGITS"])
DECORATED = re.compile(r"[ \t]{0,9}\n\s{0,40}(?:@|def\b|class\b|async\b|public\b|private\b)")
KINDS = {  # what is found: the noun of its placeholder
    "text like a placeholder": "TEXT", "link": "URL", "mail address": "EMAIL", "handle": "HANDLE", "house": "ADDRESS",
    "bank account": "NUMBER", "payment card": "NUMBER", "long number": "NUMBER", "phone": "PHONE", "name": "NAME",
}  # fmt: skip
KIND_OF = {"TEXT": "text like a placeholder", "URL": "link", "EMAIL": "mail address"}
NEAR = 48  # characters around a find that tell what it is


class Redaction:
    """Replaces in text after text; `placeholders` maps each placeholder to what it stands for, `found` counts kinds.

    names: people's full names, whose parts are replaced wherever they stand, however spelt (`zoe`, `ZOE`), in their
    cases in `languages` and in short. mine: names that stay.
    """

    def __init__(self, names: Iterable[str] = (), mine: Iterable[str] = (), languages: Sequence[str] = ()):
        mine = list(mine)
        self.names = Names(names, mine, languages)
        self.own_handles = frozenset(name.lower().lstrip("@") for name in mine)
        self.placeholders: dict[str, str] = {}
        self.given: dict[tuple[str, str], str] = {}
        self.counts: dict[str, int] = {}
        self.found: Counter[str] = Counter()

    def redact(self, text: str) -> str:
        return "".join(self.pieces(text))

    def pieces(self, text: str) -> Iterator[str]:
        """Houses first: what they are made of is words and numbers."""
        end = 0
        for street in STREET.finditer(text):
            yield ANYTHING.sub(self.replace, text[end : street.start()])
            yield self.placeholder("house", street[0])
            end = street.end()
        yield ANYTHING.sub(self.replace, text[end:])

    def replace(self, match: re.Match[str]) -> str:
        noun, value = match.lastgroup or "", match[0]
        if noun in KIND_OF:
            return self.placeholder(KIND_OF[noun], value)
        if noun == "WORD":
            return self.replace_word(match)
        if noun == "HANDLE":
            handle, is_code = value.lstrip("@").lower(), DECORATED.match(match.string, match.end())
            is_nobody = is_code or handle in load_words("no_handles.txt") or handle in self.own_handles
            return value if is_nobody else self.placeholder("handle", value)
        if noun == "IBAN":
            if has_account_check(value):
                return self.placeholder("bank account", value)
            return DIGITS.sub(self.replace_number, value)
        return self.replace_number(match)

    def replace_number(self, match: re.Match[str]) -> str:
        kind = kind_of_number(match[0], *text_around(match))
        return self.placeholder(kind, match[0]) if kind else match[0]

    def replace_word(self, match: re.Match[str]) -> str:
        word = match[0]
        if self.names.together:  # scripts without spaces: a name may stand within what looks like a word
            word = self.names.together.sub(lambda found: self.placeholder("name", found[0]), word)
            if word != match[0]:
                return word
        is_named = self.names.may_be_named(word) and self.names.is_named(word, *text_around(match))
        return self.placeholder("name", word) if is_named else word

    def placeholder(self, kind: str, value: str) -> str:
        self.found[kind] += 1
        noun = KINDS[kind]
        if (noun, value) not in self.given:
            self.counts[noun] = self.counts.get(noun, 0) + 1
            self.given[noun, value] = f"[{noun}_{self.counts[noun]}]"
            self.placeholders[self.given[noun, value]] = value
        return self.given[noun, value]

    def save(self, path: Path) -> None:
        """Writes the placeholders; nobody but the owner may ever read the file (on Windows: whoever may its folder)."""
        write_private(path, json.dumps(self.placeholders, ensure_ascii=False, indent=1))


def text_around(match: re.Match[str]) -> tuple[str, str]:
    return match.string[max(match.start() - NEAR, 0) : match.start()], match.string[match.end() : match.end() + NEAR]
