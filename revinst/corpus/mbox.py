"""Messages of an mbox file, as programs write them and not as they should."""

import re
from collections.abc import Iterator
from pathlib import Path

# "From me@example.com Mon Mar  2 10:00:00 2026", with a time zone before the year in some
MBOX_START = re.compile(
    rb"\AFrom .{0,300}?\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) +"
    rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d{1,2} +\d{1,2}:\d{2}(?::\d{2})?(?: +[\w:+-]+){0,2} +\d{4}"
)
HEADER = re.compile(rb"\A(?:[!-9;-~]+:|\s*$)")
QUOTED_START = re.compile(rb"\A>+From ")
BOM = b"\xef\xbb\xbf"


def is_mbox(path: Path) -> bool:
    """Mailboxes often have no suffix (`Sent`, `Inbox`)."""
    with path.open("rb") as file:
        return bool(MBOX_START.match(file.readline(1000).removeprefix(BOM)))


def split_mbox(path: Path) -> Iterator[bytes]:
    """Messages of an mbox file one by one, `>From ` undone.

    A `From ` line with a date, above a header, starts one: some programs forget the blank line before it, and others to
    quote a line of a text that begins like it. What stands before the first is a message too, of no sender.
    """
    lines: list[bytes] = []
    start = b""  # a line that may begin a message, until the next one tells
    is_message = False
    with path.open("rb") as file:
        if file.read(len(BOM)) != BOM:
            file.seek(0)
        for line in file:
            if start and HEADER.match(line):
                if is_message or b"".join(lines).strip():
                    yield b"".join(lines)
                lines, is_message = [], True
            elif start:
                lines.append(start)
            start = line if MBOX_START.match(line) else b""
            if not start:
                lines.append(line[1:] if QUOTED_START.match(line) else line)
    if is_message or b"".join(lines).strip():
        yield b"".join(lines)
    if start:
        yield b""
