"""One e-mail to what its sender wrote in it, by the standard library's `email`.

Anybody can send anything: patterns are anchored (`\\A`) or can't begin inside what they have just failed on, and no
header is given to what the standard library does in quadratic time.
"""

import hashlib
import re
from datetime import UTC
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.policy import Compat32
from email.utils import parseaddr, parsedate_to_datetime

from revinst.corpus.mail_text import text_of
from revinst.corpus.quotes import strip_quotes
from revinst.corpus.texts import NotKept, OwnText

NAME_HEADERS = ("From", "To", "Cc", "Bcc", "Reply-To", "Sender")
REPLY_PREFIX = re.compile(r"\A(?:\s*(?:re|aw|sv|vs|antw|wg|fwd?|tr|rif|res|odp)\s*(?:\[\d+\]\s*)?:)+", re.IGNORECASE)
AUTO_SUBJECT = re.compile(
    r"\A\s*(?:automatic reply|auto(?:matic)?[- ]?(?:reply|response|antwort)|out of (?:the )?office|abwesenheits\w+|"
    r"automatische antwort|r[ée]ponse automatique|respuesta autom[áa]tica|risposta automatica|automatisch antwoord|"
    r"automatiskt svar|resposta autom[áa]tica)\b",
    re.IGNORECASE,
)
DRAFT_LABEL = re.compile(
    r"(?:^|,)\s*(?:drafts?|entwürfe|brouillons|borradores|bozze|rascunhos)\s*(?:,|$)", re.IGNORECASE
)
ENCODED_WORD = r"=\?[^?\s]+\?[bq]\?[^?]*(?:\?(?!=)[^?]*){0,3}\?="  # some leave a question mark in it as it is
ENCODED_WORDS = re.compile(rf"{ENCODED_WORD}(?:\s*{ENCODED_WORD})*", re.IGNORECASE)
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+("?)', re.DOTALL)  # without an end: all that is left
ANGLE_ADDRESS = re.compile(r"<([^<>\s]+)>\s*(?:\([^()]*\)\s*)?(?:,|$)")
MESSAGE_ID = re.compile(r"<[^<>\s]+>")
MAX_PARAMETERS = 2000  # characters of a Content-Type that are looked at


def read_mail(content: bytes, where: str, me: frozenset[str]) -> tuple[OwnText | NotKept, list[str]]:
    """(the text or why there is none, message ids that belong to one thread with it, its own first).

    me: the owner's addresses in lower case. Raises nothing: a mail that can't be read is a NotKept.
    """
    thread = [hashlib.sha256(content).hexdigest()]
    try:
        message = message_from_bytes(content, policy=MailPolicy())
        thread = read_thread(message, content)
        text = own_text(message, where, me)
    except MemoryError:
        raise
    except Exception as error:  # `email` and `lxml` raise kinds without end on what no mail program should have written
        return NotKept(where, f"the mail can't be read ({type(error).__name__})"), thread
    if isinstance(text, OwnText):
        text.group = thread[0]
    return text, thread


class MailPolicy(Compat32):
    """Without the end of a header whose parameters `email` would take apart in quadratic time."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:MAX_PARAMETERS] if name.lower().startswith("content-") else value


def own_text(message: Message, where: str, me: frozenset[str]) -> OwnText | NotKept:
    senders = read_senders(message)
    if not me.intersection(senders):
        return NotKept(where, "not sent by me" if senders else "it names no sender")
    if DRAFT_LABEL.search(read_header(message, "X-Gmail-Labels")):
        return NotKept(where, "a draft")
    if is_automatic(message):
        return NotKept(where, "an automatic reply")
    body = text_of(message)
    if body is None:
        return NotKept(where, "no text in it, only attachments")
    text = strip_quotes(body)
    if not text:
        return NotKept(where, "nothing of my own in it" if body.strip() else "empty")
    return OwnText(where, text, "mail", date=read_date(message), names=read_names(message))


def read_senders(message: Message) -> list[str]:
    """Addresses in lower case; one that stands in a name (`"me@example.org" <thief@example.com>`) is none."""
    (header, *_) = *raw_headers(message, "From"), ""
    header = header if "@" in header else decode(header)  # some encode all of it
    unquoted = QUOTED.sub(lambda quoted: "" if quoted[1] else quoted[0], header)
    found = [address for address in ANGLE_ADDRESS.findall(unquoted) if "@" in address[1:-1]] or [parseaddr(header)[1]]
    return [address.strip().lower() for address in found if address.strip()]


def raw_headers(message: Message, name: str) -> list[str]:
    """All values of a header as they lie in the mail, folded lines joined, unencoded UTF-8 read."""
    values = (str(value) for key, value in message.raw_items() if key.lower() == name.lower())
    return [
        re.sub(r"[\r\n]+", "", value).encode("utf-8", "surrogateescape").decode("utf-8", "replace") for value in values
    ]


def read_header(message: Message, name: str) -> str:
    """The first value, decoded; "" where there is none."""
    return next(map(decode, raw_headers(message, name)), "")


def decode(text: str) -> str:
    """A header's text, encoded words decoded where they can be."""
    return ENCODED_WORDS.sub(lambda words: decode_words(words[0]), text)


def decode_words(words: str) -> str:
    """Some that stand side by side, between which spaces mean nothing and a character may be cut in two."""
    try:
        return str(make_header(decode_header(words)))
    except (ValueError, LookupError, MessageError):  # an unknown charset, base64 that is cut off
        return words


def is_automatic(message: Message) -> bool:
    submitted = read_header(message, "Auto-Submitted").strip().lower()
    if (submitted and submitted != "no") or message["X-Autoreply"] or message["X-Autorespond"]:
        return True
    if read_header(message, "Precedence").strip().lower() == "auto_reply":
        return True
    return bool(AUTO_SUBJECT.match(REPLY_PREFIX.sub("", read_header(message, "Subject"))))


def read_thread(message: Message, content: bytes) -> list[str]:
    """Keys of what this mail belongs with: its id, those it answers, and its subject where that says enough."""
    ids = MESSAGE_ID.findall(read_header(message, "Message-ID"))[:1]
    ids = ids or [hashlib.sha256(content).hexdigest()]
    for name in ("References", "In-Reply-To"):
        ids += MESSAGE_ID.findall(read_header(message, name))
    subject = " ".join(REPLY_PREFIX.sub("", read_header(message, "Subject")).lower().split())
    return ids + [f"subject {subject}"] * (len(subject.split()) > 1)


def read_date(message: Message) -> str:
    """ISO 8601 in UTC; "" for a date that can't be read."""
    try:
        date = parsedate_to_datetime(read_header(message, "Date"))
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""


def read_names(message: Message) -> tuple[str, ...]:
    """What stands beside the addresses: names, however they are quoted, encoded or separated."""
    headers = (decode(value) for name in NAME_HEADERS for value in raw_headers(message, name))
    words = (re.sub(r"<[^<>]*>", " ", header).split() for header in headers)
    names = (" ".join(word for word in header if "@" not in word[1:-1]) for header in words)
    return tuple(sorted({name for name in names if name}))
