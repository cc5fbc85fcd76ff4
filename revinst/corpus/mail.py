"""One e-mail to what its sender wrote in it, by the standard library's `email`."""

import hashlib
import re
from email import message_from_bytes
from email.message import Message as Parsed
from email.policy import Compat32

from revinst.corpus.headers import read_date, read_senders, read_thread
from revinst.corpus.mail_kind import why_left_out
from revinst.corpus.mail_names import read_greeted_names, read_names, read_quoted_names
from revinst.corpus.mail_text import text_of
from revinst.corpus.quotes import strip_quotes
from revinst.corpus.texts import Message

MAX_PARAMETERS = 2000  # characters of a Content-Type that are looked at
# A longer stretch of base64 is what a mail carries and no text of it.
BASE64 = re.compile(rb"^(?:[A-Za-z0-9+/=]{60,}+\r?\n)++", re.MULTILINE)
MAX_BASE64 = 1 << 20
MAX_BYTES = 4 << 20  # of a mail without these that are read: `email` takes fifty times the memory of short lines


def read_mail(content: bytes, where: str, me: frozenset[str], everybody: bool = False) -> Message:
    """The mail; its text is read if one of its senders is among `me` (addresses in lower case), or everybody's.

    Raises nothing: a mail that can't be read has that as its reason to be left out.
    """
    found = Message(where, "", "mail", source="the mail", conversation=hashlib.sha256(content).hexdigest())
    try:
        if len(content) > MAX_BYTES:
            content = BASE64.sub(lambda lines: lines[0] if len(lines[0]) <= MAX_BASE64 else b"", content)
        message = message_from_bytes(content[:MAX_BYTES], policy=MailPolicy())
        found.author = tuple(read_senders(message))
        found.conversation, *answers = read_thread(message, found.conversation)
        found.answers = tuple(answers)
        found.id, found.reply_to = found.conversation, next((name for name in reversed(answers) if name[0] == "<"), "")
        found.left_out = "" if found.author else "it names no sender"
        found.names = read_names(message)
        if me.intersection(found.author):
            found.date = read_date(message)
            found.left_out = why_left_out(message, where, me.intersection(found.author))
            if not found.left_out:
                found.left_out = read_own_text(message, found)
        elif everybody:
            found.date = read_date(message)
            read_own_text(message, found)
    except MemoryError:
        raise
    except Exception as error:  # `email` and `lxml` raise kinds without end on what no mail program should have written
        found.left_out = f"the mail can't be read ({type(error).__name__})"
    return found


class MailPolicy(Compat32):
    """Without the end of a header whose parameters `email` would take apart in quadratic time."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:MAX_PARAMETERS] if name.lower().startswith("content-") else value


def read_own_text(message: Parsed, found: Message) -> str:
    """Its sender's text and whom it names beside those in its headers. -> why there is none, "" where there is one."""
    body = text_of(message)
    if body is None:
        return "no text in it, only attachments"
    people = [name.strip() for header in found.names for name in re.split(r"[,;\"<>]", header)]
    found.text = strip_quotes(body, people)
    found.names += (*read_quoted_names(body, found.text), *read_greeted_names(found.text, message))
    return "" if found.text else "nothing of my own in it" if body.strip() else "empty"
