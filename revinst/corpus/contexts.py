"""What texts of mine answer: the message of somebody else that they name, or in a chat those right before them."""

import json
import os
import tempfile
from collections.abc import Sequence

from revinst.corpus.authors import PAUSE_MINUTES, minutes_between
from revinst.corpus.texts import NOT_MINE, Message
from revinst.corpus.threads import hash_name
from revinst.data.examples import check_text
from revinst.data.formats import BadRecord

MAX_CONTEXT = 2000  # characters: some 500 tokens of English, so that instruction and answer have room in a row beside


class Contexts:
    """Messages of others as they are met, and what those of mine answer.

    One that is named may come later (mail programs sort as they like), so these are looked up at the end. Of others
    memory holds what is said in each chat since I spoke, and a number a message that may be named: their texts wait in
    a file without a name, gone with the process.
    """

    def __init__(self) -> None:
        self.said: dict[str, list[tuple[str, str]]] = {}  # of others in a chat since I spoke: date, text
        self.places: dict[int, int] = {}  # of texts in the file, by the hash of their message's id
        self.file = tempfile.TemporaryFile()  # noqa: SIM115

    def look(self, message: Message) -> None:
        """At a message of somebody else, in its place in the stream."""
        try:
            is_text = bool(check_text(message.text, "the text")) and message.left_out in ("", NOT_MINE)
        except BadRecord:
            is_text = False
        if not is_text:
            return
        text = shorten(message.text)
        if message.id:
            self.places[hash_name(message.id)] = self.file.seek(0, os.SEEK_END)
            self.file.write(json.dumps(text).encode() + b"\n")
        if message.kind == "chat":
            said = self.said.setdefault(message.conversation, [])
            said.append((message.date, text))
            if sum(len(each) for _, each in said[1:]) > MAX_CONTEXT:
                del said[0]

    def said_before(self, message: Message) -> str:
        """What was said in the chat of one of mine since the one before it."""
        said = self.said.pop(message.conversation, []) if message.kind == "chat" else []
        return join_last([text for date, text in said if is_soon(date, message.date)])

    def find(self, name: str) -> str:
        """The text of the message of somebody else with this id; "" where none was met."""
        place = self.places.get(hash_name(name))
        if place is None:
            return ""
        self.file.seek(place)
        return json.loads(self.file.readline())


def is_soon(early: str, late: str) -> bool:
    """Whether one may be an answer to the other: not after a night, nor in a file that is not in order."""
    return not early or not late or (early <= late and minutes_between(early, late) < PAUSE_MINUTES)


def join_last(texts: Sequence[str]) -> str:
    """The last ones that fit, a line each."""
    first = next((n for n in range(len(texts)) if sum(len(text) + 1 for text in texts[n:]) <= MAX_CONTEXT + 1), -1)
    return "\n".join(texts[first:])


def shorten(text: str) -> str:
    """Its first MAX_CONTEXT characters, up to the end of a word."""
    return text if len(text) <= MAX_CONTEXT else text[: MAX_CONTEXT + 1].rsplit(maxsplit=1)[0][:MAX_CONTEXT]
