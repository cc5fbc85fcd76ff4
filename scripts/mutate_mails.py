"""Mutated mails against `revinst corpus`: none may raise, and none may take longer than its size allows.

    python scripts/mutate_mails.py FOLDER [FOLDER ...] [--count N] [--seed S]

FOLDERs hold mails of others, such as the test data of mail libraries (.eml, .mbox, .msg, .txt); each is given a sender
that counts as me, so that all of it is read. Ends with 1 where a mail raised or was slow.
"""

import argparse
import random
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from revinst.corpus.ingest import Ingest
from revinst.corpus.mail import read_mail
from revinst.corpus.mbox import split_mbox
from revinst.errors import UserError
from revinst.options import Parser

ME = "alex@example.org"
SUFFIXES = {".eml", ".mbox", ".msg", ".txt", ".mime", ""}
MAIL = re.compile(rb"\A\s*(?:From |[\w-]+:)")
MAX_MAIL = 200_000  # of what is mutated
SLOW_S, SLOW_S_PER_MB = 2.0, 4.0
LONG = 200_000  # characters of a huge line
ODD = (
    b"=?utf-8?b?", b"=?x?q?", b"?=", b"<", b">", b"(", b'"', b"@", b",", b":", b" ", b"\t", b"=", b"--", b"\xff", b"\0",
    b"> ", b"On ", b"From ", b"From: a@b\n", b"<div>", b"<blockquote>", b"a@b ", b"9:00 ", b"_", b"&#x",
    b"\xe2\x80\x8b", b"On 9:00 a@b.c ", b"http://", b"(http://",
)  # fmt: skip
CHARSETS = (
    b"utf-8", b"utf-7", b"utf-16", b"no-such", b"", b"hz", b"iso-2022-jp", b"idna", b"base64", b"\xe4", b"cp1252",
)  # fmt: skip
ENCODINGS = (b"base64", b"quoted-printable", b"uuencode", b"x-uuencode", b"8bit", b"7bit", b"none", b"")

Mutation = Callable[[bytes, random.Random], bytes]


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    mails = [
        content
        for folder in options.folders
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file() and MAIL.match(content := path.read_bytes()[:MAX_MAIL])
    ]
    print(f"{len(mails)} mails of {len(options.folders)} folders")
    reasons: Counter[str] = Counter()
    bad, slow, slowest = 0, 0, (0.0, "")
    for number in range(options.count):
        chance = random.Random(f"{options.seed} {number}")
        content, names = chance.choice(mails), []
        for mutate in chance.choices(MUTATIONS, k=chance.randint(1, 3)):
            content = mutate(content, chance)
            names.append(mutate.__name__)
        content = b"From: " + ME.encode() + b"\n" + content
        started = time.process_time()
        try:
            read_as_file(content, chance.random() < 0.1, reasons)
        except Exception:
            bad += 1
            print(f"{number} ({', '.join(names)}):\n{traceback.format_exc()}")
        spent = time.process_time() - started
        slowest = max(slowest, (spent, f"{number} ({', '.join(names)}), {len(content)} bytes"))
        if spent > SLOW_S + SLOW_S_PER_MB * len(content) / 1e6:
            slow += 1
            print(f"{number} ({', '.join(names)}): {spent:.1f} s for {len(content)} bytes")
    print(
        f"{options.count} mutations: {bad} raised, {slow} were slow; the slowest took {slowest[0]:.2f} s: {slowest[1]}"
    )
    print("\n".join(f"{count:7} {reason}" for reason, count in reasons.most_common()))
    return 1 if bad or slow else 0


def read_as_file(content: bytes, by_ingest: bool, reasons: Counter[str]) -> None:
    """As `read_mail` reads one; a tenth as a whole run reads a mailbox, whose errors may be those of a user."""
    if not by_ingest:
        reasons[read_mail(content, "a.eml", frozenset([ME])).left_out or "kept"] += 1
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mbox"
        path.write_bytes(b"From me Mon Mar  2 10:00:00 2026\n" + content)
        list(split_mbox(path))
        try:
            list(Ingest(path, [ME]).texts())
        except UserError as error:
            reasons[f"UserError {str(error).partition(': ')[2][:40]}"] += 1


def cut_end(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def cut_out(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    return content[:start] + content[start + chance.randrange(1, 400) :]


def repeat(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    return (
        content[:start] + content[start : start + chance.randrange(1, 400)] * chance.randrange(2, 50) + content[start:]
    )


def change_bytes(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(min(len(changed), chance.randrange(1, 40))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def insert_odd(content: bytes, chance: random.Random) -> bytes:
    """In a header or the body, once or as a huge line."""
    start = chance.randrange(len(content) + 1) if chance.random() < 0.5 else content.find(b"\n") + 1
    odd = chance.choice(ODD)
    times = LONG // len(odd) if chance.random() < 0.2 else chance.randrange(1, 5)
    return content[:start] + odd * times + content[start:]


def break_header(content: bytes, chance: random.Random) -> bytes:
    head, end, body = content.partition(b"\n\n")
    lines = head.split(b"\n")
    place = chance.randrange(len(lines))
    lines[place] = chance.choice((lines[place].replace(b":", b""), b" " + lines[place], lines[place] * 50, b":", b""))
    return b"\n".join(lines) + end + body


def change_charset(content: bytes, chance: random.Random) -> bytes:
    start = content.lower().find(b"charset=")
    charset = chance.choice(CHARSETS)
    if start < 0:
        return b"Content-Type: text/plain; charset=" + charset + b"\n" + content
    return content[: start + 8] + charset + content[start + 8 + chance.randrange(12) :]


def change_encoding(content: bytes, chance: random.Random) -> bytes:
    return b"Content-Transfer-Encoding: " + chance.choice(ENCODINGS) + b"\n" + content


def drop_boundary(content: bytes, chance: random.Random) -> bytes:
    """One of the lines that begin with two dashes, or the parameter that names them."""
    lines = content.split(b"\n")
    places = [number for number, line in enumerate(lines) if line.startswith(b"--") or b"boundary" in line]
    if places:
        del lines[chance.choice(places)]
    return b"\n".join(lines)


def nest(content: bytes, chance: random.Random) -> bytes:
    kind = chance.choice((b"multipart/mixed", b"multipart/alternative", b"message/rfc822", b"multipart/digest"))
    for depth in range(chance.choice((1, 3, 30, 300))):
        mark = b"b%d" % depth
        head = b"Content-Type: " + kind + b"; boundary=" + mark + b"\n\n"
        content = head + (
            content if kind.startswith(b"message") else b"--" + mark + b"\n" + content + b"\n--" + mark + b"--\n"
        )
    return content


def change_ends(content: bytes, chance: random.Random) -> bytes:
    return content.replace(b"\r\n", b"\n").replace(b"\n", chance.choice((b"\r", b"\r\n", b"\n\r", b"\n\n")))


def as_html(content: bytes, chance: random.Random) -> bytes:
    tag = chance.choice((b"<div>", b"<table><tr><td>", b"<blockquote>", b"<b", b"<!--", b"<p>&"))
    return b"Content-Type: text/html\n" + content + tag * chance.choice((1, 50, 5000)) + b"x"


MUTATIONS: tuple[Mutation, ...] = (
    cut_end, cut_out, repeat, change_bytes, insert_odd, insert_odd, break_header, change_charset, change_encoding,
    drop_boundary, nest, change_ends, as_html,
)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
