"""Pages that show an export to people: what everybody wrote, with nothing that says safely who did."""

from collections.abc import Iterator
from pathlib import Path

from revinst.corpus.chats.json_files import BEGINNING
from revinst.corpus.chats.notes import is_keep
from revinst.corpus.kind import Kind
from revinst.corpus.texts import Ingested, NotKept

MARKS = (
    (b'class="page_wrap"', b"message default"),  # Telegram
    (b"chatlog__message",),  # DiscordChatExporter
    (b"var jsonData =", b"conversation"),  # ChatGPT
    (b"_a6-g",),  # Facebook and Instagram
    (b"<div class=msg",),  # signal-export
    (b'<div class="message">', b'<span class="sender">'),  # imessage-exporter
)


def is_page(path: Path) -> bool:
    if path.suffix.lower() not in (".html", ".htm") or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(4 * BEGINNING)  # styles stand first
    return any(all(mark in start for mark in marks) for marks in MARKS) or is_keep(path.with_suffix(".json"))


def leave_out_page(path: Path, where: str) -> Iterator[Ingested]:
    yield NotKept(where, "an export's page for people; ask the service for JSON")


KINDS = (
    Kind(
        "Pages of exports",
        "HTML of Telegram, Facebook, Instagram, ChatGPT, Keep, DiscordChatExporter, signal-export, imessage-exporter",
        "nothing",
        "ask for JSON (imessage-exporter: for text) in place of HTML",
        is_page,
        leave_out_page,
    ),
)
