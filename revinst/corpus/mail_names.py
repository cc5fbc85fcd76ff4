"""Whom a mail names beside its text, for redaction: in its headers, in what it quotes, in its greeting."""

import re
import unicodedata
from collections.abc import Iterator
from email.message import Message as Parsed

from revinst.corpus.headers import NAME_HEADERS, decode, raw_headers
from revinst.corpus.names import GREETED

BRACKETED = re.compile(r"[<\[]\s{0,2}(?:mailto:)?[^\s<>@\[\]]{1,64}@[^\s<>@\[\]]{1,200}[>\]]")
LOCAL_PART = re.compile(r"([^\s<>@,;:\"()]{1,64})@")
NEAR, MAX_WORDS = 80, 4  # characters before an address that may name somebody, and words of a name
MAX_LINE = 400  # characters of a line by which it is known
UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "å": "aa", "ø": "oe", "æ": "ae"})


def read_names(message: Parsed) -> tuple[str, ...]:
    """What stands beside the addresses of the headers: names, however they are quoted, encoded or separated."""
    headers = (decode(value) for name in NAME_HEADERS for value in raw_headers(message, name))
    words = (re.sub(r"<[^<>]*>", " ", header).split() for header in headers)
    names = (" ".join(word for word in header if "@" not in word[1:-1]) for header in words)
    return tuple(sorted({name for name in names if name}))


def read_quoted_names(body: str, own: str) -> Iterator[str]:
    """Names beside addresses in the lines that are not the writer's own: introductions, blocks of headers."""
    kept = {line.strip()[:MAX_LINE] for line in own.split("\n")}
    for address in BRACKETED.finditer(body):
        before = body[max(address.start() - NEAR, 0) : address.start()].rstrip()
        line = before[before.rfind("\n") + 1 :]
        whole = body[body.rfind("\n", 0, address.start()) + 1 :][:MAX_LINE].partition("\n")[0]
        if whole.strip()[:MAX_LINE] not in kept and (name := last_name(line)):
            yield name


def last_name(line: str) -> str:
    """The name that a line ends in: `On 2 Mar 2026 at 10:00, Ann Lee` -> `Ann Lee`; "" where it ends in none."""
    found: list[str] = []
    for word in reversed(line.strip(" \t\"'>(").split()):
        bare = word.strip("\"'")
        if len(found) == MAX_WORDS or not bare.replace("-", "").replace("'", "").isalpha() or bare[0].islower():
            break
        found.insert(0, bare)
    return " ".join(found)


def read_greeted_names(text: str, message: Parsed) -> Iterator[str]:
    """Who is greeted and has that name in an address: `Hi Kim,` to kim.ode@example.org, which names nobody else."""
    greeted = GREETED.match(text)
    headers = (value for name in NAME_HEADERS for value in raw_headers(message, name))
    addresses = " ".join(part.lower() for header in headers for part in LOCAL_PART.findall(header))
    for word in greeted[1].split() if greeted else ():
        lower = word.lower()
        if any(form in addresses for form in (lower, lower.translate(UMLAUTS), without_accents(lower))):
            yield word


def without_accents(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))
