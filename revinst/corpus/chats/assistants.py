"""Exports of ChatGPT and Claude: what was asked is mine, what was answered is not."""

from collections.abc import Iterator
from pathlib import Path

from revinst.corpus.chats.json_files import (
    Fields,
    begins_with,
    dicts_in,
    object_in,
    read_seconds,
    text_in,
)
from revinst.corpus.chats.json_stream import read_items
from revinst.corpus.kind import Kind
from revinst.corpus.tables import read_iso
from revinst.corpus.texts import NOT_MINE, Ingested, Message

WRITTEN = ("text", "multimodal_text")  # kinds of content that somebody types; others are settings and tools


def is_chatgpt(path: Path) -> bool:
    return begins_with(path, "[{", "title", "create_time", "mapping", "parent", "children")


def is_claude(path: Path) -> bool:
    return begins_with(path, "[{", "uuid", "name", "created_at", "chat_messages")


def read_chatgpt(path: Path, where: str) -> Iterator[Ingested]:
    """The messages of a conversation that are shown stand in their order, after those that an edit replaced."""
    for place, conversation in enumerate(read_items(path), start=1):
        here = f"{where}#{place}"
        nodes = object_in(conversation, "mapping")
        shown = find_path(nodes, conversation.get("current_node"))
        places = dict(zip(nodes, range(1, len(nodes) + 1), strict=True))
        for node_id in [*(each for each in nodes if each not in shown), *reversed(shown)]:
            node, number = nodes[node_id], places[node_id]
            message = object_in(node, "message")
            if not message:  # the root of the tree
                continue
            text = read_parts(object_in(message, "content"))
            left_out = why_not_asked(message, text)
            if shown and node_id not in shown:
                text, left_out = "", left_out or "an earlier form of a message that was edited"
            date = read_seconds(message.get("create_time"))
            yield Message(f"{here}.{number}", text, "chat", date=date, conversation=here, left_out=left_out)


def find_path(nodes: Fields, last: object) -> dict[str, None]:
    """Ids from the last message that is shown up to the root."""
    found = dict[str, None]()
    while isinstance(last, str) and last in nodes and last not in found:
        found[last] = None
        last = object_in(nodes, last).get("parent")
    return found


def why_not_asked(message: Fields, text: str) -> str:
    role = object_in(message, "author").get("role")
    content = object_in(message, "content").get("content_type")
    is_hidden = object_in(message, "metadata").get("is_visually_hidden_from_conversation") is True
    if role == "assistant" and content in WRITTEN and message.get("recipient", "all") == "all":
        return NOT_MINE
    if role != "user":
        return "a tool's, not a message"
    if content not in WRITTEN or is_hidden:
        return "a setting, not a message"
    return "" if text else "no text in it, only attachments"


def read_parts(content: Fields) -> str:
    parts = content.get("parts")
    return "\n".join(part for part in parts if isinstance(part, str)).strip() if isinstance(parts, list) else ""


def read_claude(path: Path, where: str) -> Iterator[Ingested]:
    for place, conversation in enumerate(read_items(path), start=1):
        here = f"{where}#{place}"
        for number, message in enumerate(dicts_in(conversation.get("chat_messages")), start=1):
            parts = [part for part in dicts_in(message.get("content")) if part.get("type") == "text"]
            text = "\n".join(line for part in parts for line in text_in(part, "text"))
            text = (text or "".join(text_in(message, "text"))).strip()
            left_out = "" if text else "no text in it, only attachments"
            yield Message(
                f"{here}.{number}",
                text,
                "chat",
                date=read_iso(message.get("created_at")),
                conversation=here,
                left_out=left_out if message.get("sender") == "human" else NOT_MINE,
            )


KINDS = (
    Kind(
        "ChatGPT",
        "JSON: a list with `title`, `create_time`, `mapping` of nodes with `parent`, `children`",
        "what you asked, as it stood last; answers, custom instructions and files are left out",
        "Settings, Data controls, Export data",
        is_chatgpt,
        read_chatgpt,
    ),
    Kind(
        "Claude",
        "JSON: a list with `uuid`, `name`, `created_at`, `chat_messages`",
        "what you asked; answers and files are left out",
        "Settings, Privacy, Export data",
        is_claude,
        read_claude,
    ),
)
