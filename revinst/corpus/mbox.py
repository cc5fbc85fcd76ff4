"""Messages of an mbox file, as programs write them and not as they should."""

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# "From me@example.com Mon Mar  2 10:00:00 2026", with a time zone before the year in some
DATED_START = re.compile(
    rb"\AFrom .{0,300}?\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) +"
    rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d{1,2} +\d{1,2}:\d{2}(?::\d{2})?(?: +[\w:+-]+){0,2} +\d{4}"
)
# "From ", "From -", "From 123@xxx", "From ???@???", "From me@example.com", with or without a date of another form
BARE_START = re.compile(rb"\AFrom(?: +(?:-|[^\s@]{1,200}@[^\s@]{0,200}|\?{3,})(?: +[^\r\n]{0,100})?)? *\r?\n")
NAME_START = re.compile(rb"\AFrom +[\w.+-]{1,80} *\r?\n")  # of a user of the same machine: "From nobody"
HEADER = re.compile(rb"\A(?:[!-9;-~]+:|\s*$)")
# What the first two lines of a mail are below a separator without a date: prose may begin with "From" too.
MAIL_HEADER = re.compile(
    rb"\A(?:From|To|Cc|Bcc|Date|Subject|Sender|Reply-To|Message-ID|Received|Return-Path|Delivered-To|Envelope-To|"
    rb"MIME-Version|Content-[A-Za-z-]+|References|In-Reply-To|DKIM-Signature|Authentication-Results|List-[A-Za-z-]+|"
    rb"Status|X-[!-9;-~]+):",
    re.IGNORECASE,
)
QUOTED_START = re.compile(rb"\A>+From ")
BOM = b"\xef\xbb\xbf"
MAX_LINE = 1 << 16  # a longer one comes in pieces
MAX_MAIL = 40 << 20  # bytes of a mail that are read; its text stands before what it carries
AHEAD = 2  # lines below a separator that tell whether it is one


def is_mbox(path: Path) -> bool:
    """Mailboxes often have no suffix (`Sent`, `Inbox`)."""
    with path.open("rb") as file:
        start, *below = (file.readline(MAX_LINE) for _ in range(1 + AHEAD))
    return starts_mail(start.removeprefix(BOM), below, above=b"\n")


def starts_mail(line: bytes, below: list[bytes], above: bytes) -> bool:
    """Whether a line separates mails: it has a date and a header below it, or a blank line above it and two below."""
    if DATED_START.match(line):
        return not below or bool(HEADER.match(below[0]))
    if NAME_START.match(line) and not any(b"@" in each for each in below):
        return False  # "From Paris", "To: Rome"
    if not below or not (BARE_START.match(line) or NAME_START.match(line)):
        return False
    is_continued = len(below) > 1 and (below[1][:1] in b" \t" or bool(MAIL_HEADER.match(below[1])))
    return not above.strip() and bool(MAIL_HEADER.match(below[0])) and is_continued


def read_lines(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """(piece of a line, whether it is its beginning); no piece is longer than MAX_LINE."""
    is_beginning = True
    while piece := file.readline(MAX_LINE):
        yield piece, is_beginning
        is_beginning = piece.endswith(b"\n")


def split_mbox(path: Path) -> Iterator[bytes]:
    """Messages of an mbox file one by one, `>From ` undone, of each at most MAX_MAIL bytes.

    Some programs forget the blank line before a separator, others its date, and others to quote a line of a text that
    begins like one. What stands before the first is a message too, of no sender.
    """
    mail, is_mail, above = bytearray(), False, b"\n"
    with path.open("rb") as file:
        if file.read(len(BOM)) != BOM:
            file.seek(0)
        lines = read_lines(file)
        window: deque[tuple[bytes, bool]] = deque()
        while True:
            while len(window) <= AHEAD and (following := next(lines, None)):
                window.append(following)
            if not window:
                break
            line, is_beginning = window.popleft()
            is_start = is_beginning and line.startswith(b"From")
            if is_start and starts_mail(line, [piece for piece, _ in window], above):
                if is_mail or mail.strip():
                    yield bytes(mail)
                mail, is_mail = bytearray(), True
            elif len(mail) < MAX_MAIL:
                mail += line[1:] if is_beginning and QUOTED_START.match(line) else line
            above = line
    if is_mail or mail.strip():
        yield bytes(mail)
