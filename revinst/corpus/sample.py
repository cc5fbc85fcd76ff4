"""Some of the owner's messages with all that stood in them, to show what was kept and what was left out."""

import hashlib
from collections.abc import Iterator
from difflib import SequenceMatcher
from email import message_from_bytes
from heapq import heappush, heappushpop

from revinst.corpus.authors import Authors
from revinst.corpus.mail import MAX_BYTES, MailPolicy
from revinst.corpus.mail_text import text_of
from revinst.corpus.texts import Message

SHOWN = 40  # messages
MAX_LINES = 300  # of a message


class Sample:
    """Drawn by a hash of their places, so that the same input gives the same ones; `texts` gives them in order."""

    def __init__(self, size: int = SHOWN):
        self.size = size
        self.drawn: list[tuple[int, str, Message, str]] = []  # a heap by minus the hash; the whole text comes last

    def look(self, message: Message, authors: Authors, content: bytes = b"") -> None:
        """At a message that may be mine. content: of a mail; it is taken apart only where it is drawn."""
        if message.author and not authors.is_me(message.author):
            return
        key = -int.from_bytes(hashlib.blake2b(message.where.encode(errors="replace"), digest_size=8).digest())
        if len(self.drawn) == self.size and key < self.drawn[0][0]:
            return
        entry = (key, message.where, message, read_body(content) if content else message.text)
        (heappush if len(self.drawn) < self.size else heappushpop)(self.drawn, entry)

    def texts(self) -> Iterator[tuple[Message, list[tuple[bool, str]]]]:
        """Each message and its parts in order; those of which something was left out come first."""
        parts = [(message, split_kept(whole, message.text)) for _, _, message, whole in self.drawn]
        yield from sorted(parts, key=lambda each: (all(is_kept for is_kept, _ in each[1]), each[0].where))


def read_body(content: bytes) -> str:
    """What a mail says before anything is left out; "" where it can't be read."""
    try:
        return text_of(message_from_bytes(content[:MAX_BYTES], policy=MailPolicy())) or ""
    except Exception:  # as in `read_mail`, which has said so
        return ""


def split_kept(whole: str, text: str) -> list[tuple[bool, str]]:
    """(whether it was kept, lines) of each stretch: Yes, > No? and Yes -> (True, Yes), (False, > No?)."""
    before, after = (each.strip().splitlines()[:MAX_LINES] for each in (whole, text))
    keys, kept_keys = ([" ".join(line.split()) for line in lines] for lines in (before, after))
    parts: list[tuple[bool, str]] = []
    for how, start, stop, first, last in SequenceMatcher(None, keys, kept_keys, autojunk=False).get_opcodes():
        for is_kept, lines in ((False, before[start:stop] if how != "equal" else []), (True, after[first:last])):
            if any(map(str.strip, lines)):
                parts.append((is_kept, "\n".join(lines).strip("\n")))
    return parts
