"""Telegram Desktop's export as JSON: of one chat, or of all."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from revinst.corpus.chats.json_files import (
    Fields,
    begins_with,
    dicts_in,
    read_seconds,
    text_in,
)
from revinst.corpus.chats.json_stream import read_items
from revinst.corpus.kind import Kind
from revinst.corpus.tables import read_iso
from revinst.corpus.texts import Ingested, Message

QUOTES = ("blockquote", "expandable_blockquote")


def is_telegram_chat(path: Path) -> bool:
    """That with oneself has no name."""
    return begins_with(path, ('{"name":', '{"type":'), "type", "id", "messages", "date_unixtime")


def is_telegram(path: Path) -> bool:
    """Contacts may stand before the chats, many of them."""
    return begins_with(path, '{"about":', "personal_information", "user_id") or begins_with(
        path, '{"about":', "chats", "list"
    )


def read_telegram_chat(path: Path, where: str) -> Iterator[Ingested]:
    yield from read_messages(read_items(path, "messages"), where)


def read_telegram(path: Path, where: str) -> Iterator[Ingested]:
    for place, chat in enumerate(read_items(path, ("chats", "left_chats"), "list"), start=1):
        yield from read_messages(dicts_in(chat.get("messages")), f"{where}#{place}")


def read_messages(messages: Iterable[Fields], where: str) -> Iterator[Ingested]:
    for number, message in enumerate(messages, start=1):
        author = text_in(message, "from", "from_id", "actor", "actor_id") or ("somebody without a name",)
        text = read_text(message.get("text"))
        answered = message.get("reply_to_message_id")
        stamp = message.get("date_unixtime")
        yield Message(
            f"{where}.{number}" if "#" in where else f"{where}#{number}",
            text,
            "chat",
            author,
            "the Telegram export",
            read_seconds(stamp) if stamp else read_iso(message.get("date")),
            where,
            answers=(f"{where}\0{answered}",) if answered else (),
            names=author,
            left_out=why_no_text(message, text),
            id=f"{where}\0{message.get('id')}",
            reply_to=f"{where}\0{answered}" if answered else "",
        )


def read_text(value: object) -> str:
    """A string, or a list of strings and of objects with marked text, without what quotes somebody."""
    parts = value if isinstance(value, list) else [value]
    shown = (part.get("text") if isinstance(part, dict) and part.get("type") not in QUOTES else part for part in parts)
    return "".join(part for part in shown if isinstance(part, str)).strip()


def why_no_text(message: Fields, text: str) -> str:
    if message.get("type") != "message":
        return "a notice, not a text"
    if "forwarded_from" in message or "forwarded_from_id" in message:
        return "forwarded, and somebody else wrote it"
    if "via_bot" in message:
        return "a bot's"
    return "" if text else "no text in it, only attachments"


GET = "Telegram Desktop, {}, as JSON"
KINDS = (
    Kind(
        "Telegram, one chat",
        "JSON: `name`, `type`, `id`, `messages` with `date_unixtime`",
        "messages of yours, without forwarded ones and quotes",
        GET.format("in a chat: Export chat history"),
        is_telegram_chat,
        read_telegram_chat,
    ),
    Kind(
        "Telegram",
        "JSON: `about`, `personal_information` or `chats` with `list`",
        "the same of all chats",
        GET.format("Settings, Advanced, Export Telegram data"),
        is_telegram,
        read_telegram,
    ),
)
