"""Google Takeout's chats: messages.json of Google Chat, Hangouts.json of what was before it."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from revinst.corpus.chats.json_files import (
    Fields,
    begins_with,
    dicts_in,
    drop_quotes,
    object_in,
    read_seconds,
    text_in,
)
from revinst.corpus.chats.json_stream import read_items
from revinst.corpus.kind import Kind
from revinst.corpus.texts import Ingested, Message

DATE = re.compile(r"(\w+) (\d{1,2}), (\d{4})\D{1,6}(\d{1,2}):(\d{2}):(\d{2})(?:\s([AP]M))?")


def is_google_chat(path: Path) -> bool:
    return begins_with(path, '{"messages":[', "creator", "created_date")


def is_hangouts(path: Path) -> bool:
    return begins_with(path, '{"conversations":[', "conversation")


def read_google_chat(path: Path, where: str) -> Iterator[Ingested]:
    """One room or dialogue."""
    for number, message in enumerate(read_items(path, "messages"), start=1):
        author = text_in(object_in(message, "creator"), "name", "email") or ("somebody without a name",)
        text = message.get("text")
        yield Message(
            f"{where}#{number}",
            drop_quotes(text) if isinstance(text, str) else "",
            "chat",
            author,
            "the Google Chat export",
            read_date(str(message.get("created_date"))),
            where,
            names=author,
            left_out="" if isinstance(text, str) else "no text in it, only attachments",
        )


def read_date(text: str) -> str:
    """`Monday, March 2, 2026 at 9:00:00 AM UTC`"""
    found = DATE.search(text)
    if not found:
        return ""
    month, day, year, hour, minute, second, half = found.groups()
    try:
        number = datetime.strptime(month[:3], "%b").month
        hours = int(hour) % 12 + 12 * (half == "PM") if half else int(hour)
        return datetime(int(year), number, int(day), hours, int(minute), int(second), tzinfo=UTC).isoformat()
    except ValueError:
        return ""


def read_hangouts(path: Path, where: str) -> Iterator[Ingested]:
    """All conversations; people have a name where they are still members."""
    for place, conversation in enumerate(read_items(path, "conversations"), start=1):
        facts = object_in(conversation, "conversation", "conversation") or object_in(conversation, "conversation")
        names = {
            text_in(object_in(member, "id"), "gaia_id", "chat_id")[:1]: text_in(member, "fallback_name")
            for member in dicts_in(facts.get("participant_data"))
        }
        for number, event in enumerate(dicts_in(conversation.get("events")), start=1):
            sender = text_in(object_in(event, "sender_id"), "gaia_id", "chat_id")[:1]
            author = (*names.get(sender, ()), *sender) or ("somebody without a name",)
            text = read_segments(object_in(event, "chat_message", "message_content"))
            yield Message(
                f"{where}#{place}.{number}",
                drop_quotes(text),
                "chat",
                author,
                "the Hangouts export",
                read_seconds(event.get("timestamp"), 1e-6),
                f"{where}#{place}",
                names=author,
                left_out="" if text else "a notice, not a text",
            )


def read_segments(content: Fields) -> str:
    parts = (
        "\n" if part.get("type") == "LINE_BREAK" else part.get("text") for part in dicts_in(content.get("segment"))
    )
    return "".join(part for part in parts if isinstance(part, str)).strip()


KINDS = (
    Kind(
        "Google Chat",
        "JSON: `messages` with `creator`, `created_date`",
        "messages of yours, without quotes",
        "takeout.google.com, Google Chat",
        is_google_chat,
        read_google_chat,
    ),
    Kind(
        "Hangouts",
        "JSON: `conversations` with `conversation`",
        "messages of yours, without quotes",
        "takeout.google.com, Hangouts, while it was there",
        is_hangouts,
        read_hangouts,
    ),
)
