"""Headers of a mail: who sent it, when, whom it names, and what it belongs with.

Anybody can send anything: patterns are anchored (`\\A`) or can't begin inside what they have just failed on, and no
header is given to what the standard library does in quadratic time.
"""

import re
from datetime import UTC
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message as Parsed
from email.utils import parseaddr, parsedate_to_datetime

NAME_HEADERS = ("From", "To", "Cc", "Bcc", "Reply-To", "Sender")
REPLY_PREFIX = re.compile(r"\A(?:\s*(?:re|aw|sv|vs|antw|wg|fwd?|tr|rif|res|odp)\s*(?:\[\d+\]\s*)?:)+", re.IGNORECASE)
ENCODED_WORD = r"=\?[^?\s]+\?[bq]\?[^?]*(?:\?(?!=)[^?]*){0,3}\?="  # some leave a question mark in it as it is
ENCODED_WORDS = re.compile(rf"{ENCODED_WORD}(?:\s*{ENCODED_WORD})*", re.IGNORECASE)
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+("?)', re.DOTALL)  # without an end: all that is left
ANGLE_ADDRESS = re.compile(r"<([^<>\s]+)>\s*(?:\([^()]*\)\s*)?(?:,|$)")
MESSAGE_ID = re.compile(r"<[^<>\s]+>")


def read_senders(message: Parsed) -> list[str]:
    """Addresses in lower case; one that stands in a name (`"me@example.org" <thief@example.com>`) is none."""
    (header, *_) = *raw_headers(message, "From"), ""
    header = header if "@" in header else decode(header)  # some encode all of it
    unquoted = QUOTED.sub(lambda quoted: "" if quoted[1] else quoted[0], header)
    found = [address for address in ANGLE_ADDRESS.findall(unquoted) if "@" in address[1:-1]] or [parseaddr(header)[1]]
    return [address.strip().lower() for address in found if address.strip()]


def raw_headers(message: Parsed, name: str) -> list[str]:
    """All values of a header as they lie in the mail, folded lines joined, unencoded UTF-8 read."""
    values = (str(value) for key, value in message.raw_items() if key.lower() == name.lower())
    return [
        re.sub(r"[\r\n]+", "", value).encode("utf-8", "surrogateescape").decode("utf-8", "replace") for value in values
    ]


def read_header(message: Parsed, name: str) -> str:
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


def read_thread(message: Parsed, fallback: str) -> list[str]:
    """Keys of what this mail belongs with: its id, those it answers, and its subject where that says enough."""
    ids = MESSAGE_ID.findall(read_header(message, "Message-ID"))[:1]
    ids = ids or [fallback]
    for name in ("References", "In-Reply-To"):
        ids += MESSAGE_ID.findall(read_header(message, name))
    subject = " ".join(REPLY_PREFIX.sub("", read_header(message, "Subject")).lower().split())
    return ids + [f"subject {subject}"] * (len(subject.split()) > 1)


def read_date(message: Parsed) -> str:
    """ISO 8601 in UTC; "" for a date that can't be read."""
    try:
        date = parsedate_to_datetime(read_header(message, "Date"))
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""
