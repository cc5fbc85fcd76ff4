"""WhatsApp's export of a chat as text, as iOS and Android write it in the locales of people.

[02/03/2026, 10:00:12] Alex Moreau: Are you coming?
3/2/26, 10:00 AM - Alex Moreau: Are you coming?
2026. 3. 2. 오전 10:00, Alex Moreau : Are you coming?
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TextIO

from revinst.corpus.chats.json_files import drop_quotes
from revinst.corpus.kind import Kind
from revinst.corpus.texts import Ingested, Message
from revinst.data.texts import TEXT_SUFFIXES

MARKS = re.compile(r"[\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
NOTICE = "\u200e"  # stands before what the program wrote itself
UNSEEN = r"[\u200b\u200e\u200f\u202a-\u202e\ufeff]{0,3}"
HEAD = re.compile(
    rf"\A{UNSEEN}\[?{UNSEEN}"
    r"(?P<date>\d{1,4}(?:[./-]|년|年)\s?\d{1,2}(?:[./-]|월|月)\s?\d{1,4}(?:\.|일|日)?)"
    rf"{UNSEEN}[,،]?\s(?:\w{{1,3}}\s)??{UNSEEN}"
    r"(?P<time>(?:[^\W\d_]{2}\s?)?\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:\s?(?:[ap]\.?\s?m\.?|[صم]))?)"
    rf"{UNSEEN}(?:\]|\s[-\u2013]|,)\s",
    re.IGNORECASE,
)
NAME = re.compile(r"\A(?P<name>[^:\n]{1,120}?)\s?:(?:\s|\Z)")
ATTACHED = re.compile(r"\A[^\s/]{1,100}\.\w{2,5} \([^()\n]{1,60}\)\Z")  # "IMG-1.jpg (file attached)", in any language
PUT_ON = re.compile(r"\u200e?<[^<>\n]{1,30} [^<>\n]{1,60}>\s*\Z")  # "<Media omitted>"
DELETED = re.compile(
    r"\A(?:(?:you deleted )?this message(?: was deleted)?|du hast diese nachricht gelöscht|"
    r"diese nachricht wurde gelöscht|vous avez supprimé ce message|ce message a été supprimé|eliminaste este mensaje|"
    r"se eliminó este mensaje|hai eliminato questo messaggio|questo messaggio è stato eliminato|"
    r"você apagou esta mensagem|mensagem apagada|je hebt dit bericht verwijderd|dit bericht is verwijderd|null)\.?\Z",
    re.IGNORECASE,
)
LATE = ("p", "م", "오후", "下午", "午後")  # how the second half of a day is marked
EARLY = ("a", "ص", "오전", "上午", "午前")
FIRST_LINES = 50


def is_whatsapp(path: Path) -> bool:
    """A text that begins with a dated line, and has one with a name near its beginning."""
    if path.suffix.lower() not in TEXT_SUFFIXES or not path.is_file():
        return False
    with open_chat(path) as file:
        lines = [line for line in islice(file, FIRST_LINES) if line.strip()]
    heads = [(line, HEAD.match(line)) for line in lines]
    return bool(heads and heads[0][1]) and any(head and NAME.match(line[head.end() :]) for line, head in heads)


def open_chat(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", errors="replace", newline=None)


def read_whatsapp(path: Path, where: str) -> Iterator[Ingested]:
    order = find_date_order(path)
    number, head, name, lines = 0, None, "", list[str]()

    def message() -> Message:
        assert head is not None
        text, left_out = clean_text(lines) if name else ("", "a notice, not a text")
        author = (name,) if name else ("WhatsApp",)
        date = read_date(head["date"], head["time"], order)
        return Message(
            f"{where}#{number}", text, "chat", author, "the WhatsApp chat", date, where, (), author, left_out
        )

    with open_chat(path) as file:
        for line in file:
            if found := HEAD.match(line):
                if head:
                    yield message()
                head, number = found, number + 1
                rest = line[found.end() :]
                named = NAME.match(rest)
                name = MARKS.sub("", named["name"]).strip() if named else ""
                lines = [rest[named.end() :] if named else rest]
            elif head:
                lines.append(line)
    if head:
        yield message()


def clean_text(lines: list[str]) -> tuple[str, str]:
    """(text, "") or ("", why there is none): without attachments and what the program says about a message."""
    written = [line.rstrip("\n") for line in lines if not line.startswith(NOTICE)]
    if written and ATTACHED.match(MARKS.sub("", written[0])):
        del written[0]
    text = drop_quotes(MARKS.sub("", PUT_ON.sub("", "\n".join(written))))
    if DELETED.match(text):
        return "", "deleted"
    return text, "" if text else "no text in it, only attachments"


def find_date_order(path: Path) -> str:
    """`ymd`, `dmy` or `mdy`, by a number in some date that can be no month; where none says it, by the clock: the month
    stands first where hours are counted to twelve and strokes divide the date.
    """
    is_american = False
    with open_chat(path) as file:
        for head in filter(None, map(HEAD.match, file)):
            first, second, _ = map(int, re.findall(r"\d+", head["date"]))
            if first > 31:
                return "ymd"
            if first > 12:
                return "dmy"
            if second > 12:
                return "mdy"
            is_american = "/" in head["date"] and head["time"].rstrip(". ")[-1:].isalpha()
    return "mdy" if is_american else "dmy"


def read_date(date: str, time: str, order: str) -> str:
    """The clock of the phone, taken for UTC: the file does not say where it was."""
    parts = dict(zip(order, map(int, re.findall(r"\d+", date)), strict=True))
    hour, minute, second = [*map(int, re.findall(r"\d+", time)), 0][:3]
    half = re.sub(r"[\d\s.:]", "", time).lower()
    if half.startswith((*LATE, *EARLY)):
        hour = hour % 12 + 12 * half.startswith(LATE)
    try:
        year = parts["y"] + 2000 * (parts["y"] < 100)
        return datetime(year, parts["m"], parts["d"], hour, minute, second, tzinfo=UTC).isoformat()
    except ValueError:
        return ""


KINDS = (
    Kind(
        "WhatsApp",
        "text whose first line has a date, and a name near it",
        "messages of yours, without notices, quotes and attachments; times are taken as UTC",
        "in a chat: More, Export chat, Without media",
        is_whatsapp,
        read_whatsapp,
    ),
)
