"""Messages of phones: SMS Backup & Restore's XML, and iMessages as iMazing and imessage-exporter write them."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from revinst.corpus.chats.csv_files import Row, has_columns, read_rows, read_utc
from revinst.corpus.chats.json_files import BEGINNING, read_seconds
from revinst.corpus.kind import Kind
from revinst.corpus.texts import NOT_MINE, Ingested, Message
from revinst.data.texts import TEXT_SUFFIXES
from revinst.errors import UserError

NOTICE = "\0"  # in place of an author
NOTHING = "no text in it, only attachments"
SENT = "2"
DRAFTS = ("3", "4", "5", "6")  # drafts, and what was never sent
# The app writes an emoji as the two halves of UTF-16, which no XML may name.
HALVES = re.compile(r"&#(5[56]\d{3});&#(5[67]\d{3});")
BLOCK = 1 << 20
ATTACHMENT = re.compile(r"(?:/|~/|attachments/).{1,300}\.\w{2,5}\Z")
WHEN = re.compile(r"\A([A-Z][a-z]{2} \d{1,2}, \d{4} {1,2}\d{1,2}:\d{2}:\d{2}\s[AP]M)(.*)")
READ = re.compile(r"\s*\(.{1,200}\)\s*|\s*")  # stands after the date of a message; of a notice, its text does
# What ends the text of a message: answers to it, which come again in their place, and what else is known of it.
OWN_LINE = re.compile(
    r" {4}|This message responded to an earlier message\.\Z|Tapbacks:\Z|Stickers:\Z|Sent with [A-Z][\w ]{1,30}\Z|"
    r"Edited .{1,60} later: "
)


def is_sms(path: Path) -> bool:
    if path.suffix.lower() != ".xml" or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(BEGINNING)
    return b"<smses" in start and b"<!DOCTYPE" not in start


def read_sms(path: Path, where: str) -> Iterator[Ingested]:
    for number, entry in enumerate(read_entries(path), start=1):
        is_mms = entry.tag == "mms"
        way = entry.get("msg_box" if is_mms else "type", "")
        text = read_mms(entry) if is_mms else entry.get("body", "")
        address, name = entry.get("address", ""), entry.get("contact_name", "")
        names = (name,) if name and name != "(Unknown)" else ()
        left_out = NOT_MINE if way != SENT else "" if text and text != "null" else NOTHING
        yield Message(
            f"{where}#{number}",
            text.strip(),
            "chat",
            date=read_seconds(entry.get("date"), 1e-3),
            conversation=f"{where}#{address}",
            names=names,
            left_out="never sent" if way in DRAFTS else left_out,
        )


def read_mms(entry: ElementTree.Element) -> str:
    parts = (part for part in entry.iter("part") if part.get("ct") == "text/plain")
    return "\n".join(part.get("text", "") for part in parts)


def read_entries(path: Path) -> Iterator[ElementTree.Element]:
    """One after the other, whatever the size of the file. Raises UserError."""
    parser: ElementTree.XMLPullParser[ElementTree.Element] = ElementTree.XMLPullParser(["start", "end"])
    root, rest = None, ""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        try:
            while block := file.read(BLOCK):
                parsed, mark, rest = (rest + block).rpartition(">")  # no character is cut in two
                parser.feed(HALVES.sub(join_halves, parsed + mark))
                for event in parser.read_events():
                    element = event[-1]
                    assert isinstance(element, ElementTree.Element)
                    root = element if root is None else root
                    if event[0] == "end" and element.tag in ("sms", "mms"):
                        yield element
                        root.clear()
            parser.close()
        except ElementTree.ParseError as error:
            raise UserError(f"{path}: not a whole XML file ({error})") from None


def join_halves(halves: re.Match[str]) -> str:
    high, low = map(int, halves.groups())
    joined = (chr(high) + chr(low)).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return joined if 0xD800 <= high < 0xDC00 <= low < 0xE000 else halves[0]


def is_imazing(path: Path) -> bool:
    return has_columns(path, "Chat Session", "Message Date", "Type", "Sender Name", "Text")


def read_imazing(path: Path, where: str) -> Iterator[Ingested]:
    def read_row(row: Row, here: str) -> Message:
        way, text = row["Type"], row["Text"].strip()
        left_out = NOT_MINE if way == "Incoming" else "" if way == "Outgoing" else "a notice, not a text"
        return Message(
            here,
            text,
            "chat",
            date=read_utc(row["Message Date"]),
            conversation=f"{where}#{row['Chat Session']}",
            names=tuple(name for name in (row["Sender Name"], row["Chat Session"]) if name.strip()),
            left_out=left_out or ("" if text else NOTHING),
        )

    yield from read_rows(path, where, read_row)


def is_imessage_text(path: Path) -> bool:
    """Its first line is a date that stands alone, the second a name."""
    if path.suffix.lower() not in TEXT_SUFFIXES or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = [file.readline(1000).rstrip("\n") for _ in range(3)]
    found = WHEN.match(lines[0])
    return bool(found and READ.fullmatch(found[2]) and all(map(str.strip, lines)) and not WHEN.match(lines[1]))


def read_imessage_text(path: Path, where: str) -> Iterator[Ingested]:
    """A date, who wrote it ("Me" is me), lines of text."""
    number, head, lines = 0, "", list[str]()
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if found := WHEN.match(line):
                if head:
                    yield read_block(head, lines, f"{where}#{number}", where)
                number, head = number + 1, found[1]
                lines = [] if READ.fullmatch(found[2]) else [NOTICE]
            else:
                lines.append(line.rstrip("\n"))
    if head:
        yield read_block(head, lines, f"{where}#{number}", where)


def read_block(head: str, lines: list[str], here: str, where: str) -> Message:
    author, *written = [*lines, ""]
    end = next((place for place, line in enumerate(written) if OWN_LINE.match(line)), len(written))
    kept = [line for line in written[:end] if not ATTACHMENT.match(line)]
    text = "\n".join(kept).strip()
    is_mine, is_notice = author.strip() == "Me", author == NOTICE
    not_mine = "a notice, not a text" if is_notice else NOT_MINE
    try:
        date = datetime.strptime(" ".join(head.split()), "%b %d, %Y %I:%M:%S %p").replace(tzinfo=UTC).isoformat()
    except ValueError:
        date = ""
    return Message(
        here,
        text,
        "chat",
        date=date,
        conversation=where,
        names=() if is_mine or is_notice or not author.strip() else (author.strip(),),
        left_out=("" if text else NOTHING) if is_mine else not_mine,
    )


KINDS = (
    Kind(
        "SMS Backup & Restore",
        "XML: `smses` with `sms`, `mms`",
        "messages that you sent",
        "the app SMS Backup & Restore (Android), Back up now, local",
        is_sms,
        read_sms,
    ),
    Kind(
        "iMessage, by iMazing",
        "CSV: `Chat Session`, `Message Date`, `Type`, `Sender Name`, `Text`",
        "messages that you sent; times are taken as UTC",
        "iMazing, Messages, Export to CSV",
        is_imazing,
        read_imazing,
    ),
    Kind(
        "iMessage, by imessage-exporter",
        "text: a line with a date alone, one with the author, lines of text",
        "messages of `Me`, without tapbacks and attachments; times are taken as UTC",
        "`imessage-exporter --format txt`",
        is_imessage_text,
        read_imessage_text,
    ),
)
