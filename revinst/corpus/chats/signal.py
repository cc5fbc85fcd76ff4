"""Signal: the export of Signal Desktop and of the app as JSON lines, and what the program signal-export writes."""

from collections.abc import Iterator
from pathlib import Path

from revinst.corpus.chats.json_files import Fields, begins_with, drop_quotes, object_in, read_seconds, text_in
from revinst.corpus.chats.whatsapp import is_whatsapp
from revinst.corpus.kind import Kind
from revinst.corpus.tables import read_iso
from revinst.corpus.texts import NOT_MINE, Ingested, Message, NotKept
from revinst.data.formats import BadRecord, read_json_lines

NOTHING = "no text in it, only attachments"


def is_signal(path: Path) -> bool:
    return begins_with(path, "{", "version", "backupTimeMs", suffix=".jsonl")


def is_signal_export(path: Path) -> bool:
    return begins_with(path, '{"date":', "sender", "body", "quote", "sticker", "reactions")


def is_copy(path: Path) -> bool:
    """signal-export writes each chat twice, once for people."""
    return path.suffix == ".md" and is_signal_export(path.with_name("data.json")) and is_whatsapp(path)


def read_signal(path: Path, where: str) -> Iterator[Ingested]:
    """People and chats stand before the messages in them."""
    names, me = dict[str, tuple[str, ...]](), ""
    for here, frame in read_objects(path, where):
        if isinstance(frame, NotKept):
            yield frame
            continue
        recipient, item = object_in(frame, "recipient"), object_in(frame, "chatItem")
        if "self" in recipient:
            me = str(recipient.get("id"))
        if contact := object_in(recipient, "contact"):
            parts = text_in(contact, "profileGivenName", "profileFamilyName")
            names[str(recipient.get("id"))] = (" ".join(parts),) if parts else text_in(contact, "e164")
        if item:
            text = drop_quotes("".join(text_in(object_in(item, "standardMessage", "text"), "body")))
            yield Message(
                here,
                text,
                "chat",
                date=read_seconds(item.get("dateSent"), 1e-3),
                conversation=f"{where}#{item.get('chatId')}",
                names=names.get(str(item.get("authorId")), ()),
                left_out=why_not_sent(item, text, me),
            )


def why_not_sent(item: Fields, text: str, me: str) -> str:
    if "standardMessage" not in item:
        return "a notice, not a text"
    if "outgoing" not in item and str(item.get("authorId")) != me:
        return NOT_MINE
    return "" if text else NOTHING


def read_objects(path: Path, where: str) -> Iterator[tuple[str, Fields | NotKept]]:
    for place, record in read_json_lines(path):
        here = where + place.removeprefix(str(path))
        if isinstance(record, dict):
            yield here, record
        else:
            yield here, NotKept(here, str(record) if isinstance(record, BadRecord) else "not a message")


def read_signal_export(path: Path, where: str) -> Iterator[Ingested]:
    """One chat; its writer is called Me where it is the owner."""
    for here, message in read_objects(path, where):
        if isinstance(message, NotKept):
            yield message
            continue
        text = drop_quotes("".join(text_in(message, "body")))
        sender = text_in(message, "sender")
        is_mine = sender == ("Me",)
        yield Message(
            here,
            text,
            "chat",
            date=read_iso(message.get("date")),
            conversation=where,
            names=() if is_mine else sender,
            left_out=("" if text else NOTHING) if is_mine else NOT_MINE,
        )


def leave_out_copy(path: Path, where: str) -> Iterator[Ingested]:
    yield NotKept(where, "the messages of data.json once more")


KINDS = (
    Kind(
        "Signal",
        "JSON lines: the first with `version`, `backupTimeMs`; `chatItem`",
        "messages that you sent, without quotes",
        "Settings, Chats, Export chat history",
        is_signal,
        read_signal,
    ),
    Kind(
        "Signal, by signal-export",
        "JSON lines: `date`, `sender`, `body`, `quote`, `sticker`, `reactions`",
        "messages of `Me`, without quotes; its `chat.md`, the same once more, is left out",
        "`sigexport FOLDER`",
        is_signal_export,
        read_signal_export,
    ),
    Kind(
        "Signal, by signal-export, for people",
        "text like WhatsApp's beside such a file",
        "nothing",
        "the same",
        is_copy,
        leave_out_copy,
    ),
)
