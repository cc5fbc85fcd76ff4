"""Discord: the package of one's own messages, and chats as DiscordChatExporter writes them."""

import re
from collections.abc import Iterator
from pathlib import Path

from revinst.corpus.chats.csv_files import Row, has_columns, read_rows, read_utc
from revinst.corpus.chats.json_files import begins_with, dicts_in, drop_quotes, load_json, object_in, text_in
from revinst.corpus.chats.json_stream import read_items
from revinst.corpus.kind import Kind
from revinst.corpus.tables import read_iso
from revinst.corpus.texts import Ingested, Message

NOTHING = "no text in it, only attachments"
MENTION = re.compile(r"<(?:@[!&]?|#)\d{1,30}>\s?")  # of an id that says nobody anything
EMOJI = re.compile(r"<a?(:\w{1,50}:)\d{1,30}>")
WRITTEN = ("Default", "Reply")


def is_package(path: Path) -> bool:
    """A channel of it: a list of one's own messages."""
    return begins_with(path, "[{", "ID", "Timestamp", "Contents", "Attachments")


def is_package_table(path: Path) -> bool:
    return has_columns(path, "ID", "Timestamp", "Contents", "Attachments")


def is_exporter(path: Path) -> bool:
    return begins_with(path, '{"guild":{', "channel", "dateRange", "messages")


def read_package(path: Path, where: str) -> Iterator[Ingested]:
    """Oldest first: in the file the newest is the first."""
    messages = sorted(enumerate(dicts_in(load_json(path)), start=1), key=lambda each: str(each[1].get("Timestamp")))
    for number, message in messages:
        yield build_own(
            "".join(text_in(message, "Contents")), str(message.get("Timestamp")), f"{where}#{number}", where
        )


def read_package_table(path: Path, where: str) -> Iterator[Ingested]:
    def read_row(row: Row, here: str) -> Message:
        return build_own(row["Contents"], row["Timestamp"], here, where)

    yield from read_rows(path, where, read_row)


def build_own(contents: str, date: str, here: str, where: str) -> Message:
    text = clean(contents)
    return Message(here, text, "chat", date=read_utc(date), conversation=where, left_out="" if text else NOTHING)


def clean(text: str) -> str:
    return drop_quotes(EMOJI.sub(r"\1", MENTION.sub("", text)))


def read_exporter(path: Path, where: str) -> Iterator[Ingested]:
    for number, message in enumerate(read_items(path, "messages"), start=1):
        author = text_in(object_in(message, "author"), "nickname", "name", "id") or ("somebody without a name",)
        text = clean("".join(text_in(message, "content")))
        answered = object_in(message, "reference").get("messageId")
        is_written = message.get("type") in WRITTEN
        yield Message(
            f"{where}#{number}",
            text,
            "chat",
            author,
            "the DiscordChatExporter's file",
            read_iso(message.get("timestamp")),
            where,
            answers=(f"{where}\0{answered}",) if answered else (),
            names=author,
            left_out=("" if text else NOTHING) if is_written else "a notice, not a text",
            id=f"{where}\0{message.get('id')}",
            reply_to=f"{where}\0{answered}" if answered else "",
        )


GET = "Settings, Data & Privacy, Request all of my data"
KINDS = (
    Kind(
        "Discord",
        "JSON: a list with `ID`, `Timestamp`, `Contents`, `Attachments`",
        "all messages, which are yours alone, without quotes and mentions",
        GET,
        is_package,
        read_package,
    ),
    Kind(
        "Discord, before 2024",
        "CSV: `ID`, `Timestamp`, `Contents`, `Attachments`",
        "the same",
        GET,
        is_package_table,
        read_package_table,
    ),
    Kind(
        "Discord, by DiscordChatExporter",
        "JSON: `guild`, `channel`, `messages`",
        "messages of yours, without notices, quotes and mentions",
        "DiscordChatExporter, as JSON",
        is_exporter,
        read_exporter,
    ),
)
