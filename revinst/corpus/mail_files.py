"""Files that hold one mail, each to the mail as it was sent (RFC 822): .eml, Apple Mail's .emlx, Outlook's .msg."""

import plistlib
import re
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from revinst.corpus.mbox import MAX_MAIL
from revinst.errors import NotInstalled, UserError

if TYPE_CHECKING:
    from oxmsg import Message as Outlook

MAX_LENGTH = 20  # characters of the line with the length, in .emlx
# Flags that Apple Mail keeps behind the mail, by what they say in a header: X-Status of mutt and others.
APPLE_FLAGS = ((1 << 1, b"X-Status: D\n"), (1 << 6, b"X-Unsent: 1\n"), (1 << 24, b"X-Spam-Flag: YES\n"))
MAX_FLAGS = 1 << 20
BREAKS = re.compile(r"[\r\n\0]+")
# Properties of MS-OXPROPS: https://learn.microsoft.com/openspecs/exchange_server_protocols/ms-oxprops
MESSAGE_FLAGS, UNSENT = 0x0E07, 0x8
SENDER_ADDRESSES = (0x5D01, 0x0C1F, 0x5D02, 0x0065)  # SMTP's first: the others may be names inside Exchange
SENDER_NAMES = (0x0C1A, 0x0042)
MESSAGE_ID, ANSWERS, REFERENCES, DISPLAY_TO = 0x1035, 0x1042, 0x1039, 0x0E04


def read_beginning(path: Path) -> bytes:
    """Of a file with one mail; its text stands before what it carries."""
    with path.open("rb") as file:
        return file.read(MAX_MAIL)


def read_emlx(path: Path) -> bytes:
    """The length in a line, the mail, a property list. Raises UserError."""
    with path.open("rb") as file:
        line = file.readline(MAX_LENGTH).strip()
        if not line.isdigit():
            raise UserError(f"{path}: not an .emlx of Apple Mail: its first line is not the mail's length")
        start, length = file.tell(), int(line)
        mail = file.read(min(length, MAX_MAIL))
        file.seek(start + min(length, path.stat().st_size))
        flags = read_apple_flags(file.read(MAX_FLAGS))
    return b"".join(header for bit, header in APPLE_FLAGS if flags & bit) + mail


def read_apple_flags(content: bytes) -> int:
    try:
        flags = plistlib.loads(content.strip()).get("flags", 0)
    except Exception:  # cut off or no property list: `plistlib` raises kinds of its own, expat's and others
        return 0
    return flags if isinstance(flags, int) else 0


def read_msg(path: Path) -> bytes:
    """Raises UserError, also where the library is not installed."""
    try:
        from oxmsg import Message as Outlook
    except ImportError:
        raise NotInstalled(path, "python-oxmsg") from None
    if path.stat().st_size > 10 * MAX_MAIL:
        raise UserError(f"{path}: larger than {10 * MAX_MAIL >> 20} MiB; save the mail without what it carries")
    try:
        return build_mail(Outlook.load(str(path)))
    except MemoryError:
        raise
    except Exception as error:  # `olefile` and `oxmsg` raise kinds without end on a damaged file
        raise UserError(f"{path}: not a .msg of Outlook that can be read ({type(error).__name__})") from None


def build_mail(outlook: "Outlook") -> bytes:
    """With the headers that it came with, or, of a mail that was sent from here, those that Outlook keeps instead."""
    properties = outlook.properties
    mail = EmailMessage()
    kept = {name: value for name, value in outlook.message_headers.items()
            if not name.lower().startswith(("content-", "mime-"))}  # fmt: skip
    if not kept:
        name = next(filter(None, map(properties.str_prop_value, SENDER_NAMES)), "")
        address = next((each for each in map(properties.str_prop_value, SENDER_ADDRESSES) if each and "@" in each), "")
        date = outlook.sent_date
        kept = {
            "From": f'"{name}" <{address}>' if address else "",
            "To": properties.str_prop_value(DISPLAY_TO) or "",
            "Subject": outlook.subject,
            "Date": format_datetime(date) if date else "",
            "Message-ID": properties.str_prop_value(MESSAGE_ID) or "",
            "In-Reply-To": properties.str_prop_value(ANSWERS) or "",
            "References": properties.str_prop_value(REFERENCES) or "",
        }
    if (properties.int_prop_value(MESSAGE_FLAGS) or 0) & UNSENT:
        kept["X-Unsent"] = "1"
    one_line = {name: BREAKS.sub(" ", value) for name, value in kept.items() if value}
    headers = "".join(f"{name}: {value}\n" for name, value in one_line.items())
    if body := outlook.body:
        mail.set_content(body)
    if html := outlook.html_body:
        (mail.add_alternative if body else mail.set_content)(html, subtype="html")
    return headers.encode(errors="replace") + mail.as_bytes()


ReadMail = Callable[[Path], bytes]
MAIL_FILES: dict[str, ReadMail] = {".eml": read_beginning, ".emlx": read_emlx, ".msg": read_msg}
