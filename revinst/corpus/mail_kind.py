"""What a mail is beside its text: a draft, deleted, spam, a chat, an automatic reply, or forged in somebody's name.

Programs say so in labels, status headers, names of folders and of Maildir files.
"""

import re
from collections.abc import Callable
from email.message import Message as Parsed
from email.utils import getaddresses

from revinst.corpus.folders import kind_of_folder, kind_of_label
from revinst.corpus.headers import REPLY_PREFIX, raw_headers, read_header

MOZILLA_DELETED = 0x0008  # of X-Mozilla-Status, nsMsgMessageFlags::Expunged
AUTO_SUBJECT = re.compile(
    r"\A\s*(?:automatic reply|auto(?:matic)?[- ]?(?:reply|response|antwort)|out of (?:the )?office|abwesenheits\w+|"
    r"automatische antwort|r[ée]ponse automatique|respuesta autom[áa]tica|risposta automatica|automatisch antwoord|"
    r"automatiskt svar|resposta autom[áa]tica)\b",
    re.IGNORECASE,
)
RESULT = re.compile(r"\b(dmarc|spf|dkim)\s{0,9}=\s{0,9}(\w+)", re.IGNORECASE)
# A server that knew who sent: RFC 3848's protocols with an A, a web mailer, Exchange, a local user.
AUTHENTICATED = re.compile(
    r"\bwith (?:e?smtps?a|http|https|mapi|lmtpa|local)\b|\bauthenticated\b|\bas user\b|\(auth[= ]|\buserid\b|"
    r"\bwith Microsoft",
    re.IGNORECASE,
)
LIST_HEADERS = ("List-Id", "List-Post", "X-BeenThere")
LIST_NAME = re.compile(r"[^\s<>:,;\"]+")  # an address, or one with a dot in place of its @
MAX_RECEIVERS = 2000  # characters of a header
RECEIVED_FROM = re.compile(r"\A\s*from\s", re.IGNORECASE)


def why_left_out(message: Parsed, where: str, senders: frozenset[str]) -> str:
    """Why a mail is not one that its sender wrote and sent; "" for one that is. senders: addresses of mine in it."""
    reasons: tuple[Callable[[], str], ...] = (
        lambda: kind_of_folder(where),
        lambda: kind_of_labels(message),
        lambda: kind_of_status(message),
        lambda: "spam" if is_spam(message) else "",
        lambda: "an automatic reply" if is_automatic(message) else "",
        lambda: "its sender is forged" if is_forged(message, senders) else "",
    )
    return next(filter(None, (reason() for reason in reasons)), "")


def kind_of_labels(message: Parsed) -> str:
    """By Gmail's labels, as Takeout writes them, and Thunderbird's and Yahoo's names of a folder."""
    labels = ",".join(read_header(message, name) for name in ("X-Gmail-Labels", "X-Folder", "X-Keywords"))
    return next(filter(None, map(kind_of_label, labels.replace('"', "").split(","))), "")


def kind_of_status(message: Parsed) -> str:
    """By what programs put into headers of a mail that never left or was deleted."""
    mozilla = read_header(message, "X-Mozilla-Status").strip()
    if re.fullmatch(r"[\da-fA-F]{1,8}", mozilla) and int(mozilla, 16) & MOZILLA_DELETED:
        return "deleted"
    status = read_header(message, "X-Status")
    if "D" in status:
        return "deleted"
    if "T" in status or message["X-Mozilla-Draft-Info"] or read_header(message, "X-Unsent").strip() == "1":
        return "a draft"
    return "a draft" if read_header(message, "X-Uniform-Type-Identifier").strip() == "com.apple.mail-draft" else ""


def kind_of_maildir(name: str) -> str:
    """By the flags in a file's name, `1700.host:2,ST`; on Windows another character than the colon stands there."""
    flags = re.search(r"[:;!-]2,(\w*)\Z", name)
    return "" if not flags else "deleted" if "T" in flags[1] else "a draft" if "D" in flags[1] else ""


def is_spam(message: Parsed) -> bool:
    flags = (read_header(message, name).strip().lower() for name in ("X-Spam-Flag", "X-Spam-Status", "X-Spam"))
    level = read_header(message, "X-MS-Exchange-Organization-SCL").strip()  # of 5 and more, Exchange files it as junk
    return any(flag.startswith(("yes", "true", "spam")) for flag in flags) or level in ("5", "6", "7", "8", "9")


def is_automatic(message: Parsed) -> bool:
    submitted = read_header(message, "Auto-Submitted").strip().lower()
    if (submitted and submitted != "no") or message["X-Autoreply"] or message["X-Autorespond"]:
        return True
    if read_header(message, "Precedence").strip().lower() == "auto_reply":
        return True
    return bool(AUTO_SUBJECT.match(REPLY_PREFIX.sub("", read_header(message, "Subject"))))


def is_forged(message: Parsed, senders: frozenset[str]) -> bool:
    """Whether it came in from outside in my name: the servers that took it say so in what they wrote above it.

    A mail that I sent has none of their headers, or those of a server that knew me. A list that I wrote to changes what
    I had signed, so that its copy of my mail seems forged and is not.
    """
    is_listed = is_from_list(message)
    verdicts = [verdict for name in ("Authentication-Results", "ARC-Authentication-Results", "Received-SPF")
                for verdict in map(str.lower, raw_headers(message, name))]  # fmt: skip
    if verdicts:
        # the topmost is of the server that delivered it: what stands below, the sender may have written
        results = RESULT.findall(verdicts[0])
        found = dict(reversed(results)) | ({"dkim": "pass"} if ("dkim", "pass") in results else {})
        if found.get("dmarc") in ("pass", "fail"):
            return found["dmarc"] == "fail" and not (is_listed and found.get("spf") not in ("fail", "softfail"))
        is_fail = found.get("spf", verdicts[0].split()[0] if verdicts[0].split() else "") in ("fail", "softfail")
        return is_fail and found.get("dkim") != "pass"
    received = raw_headers(message, "Received")
    is_delivered = any(message[name] for name in ("Delivered-To", "X-Original-To", "Envelope-To", "Return-Path"))
    if is_listed or not is_delivered or not any(map(RECEIVED_FROM.match, received)):
        return False
    trace = " ".join([*received, *raw_headers(message, "Return-Path")]).lower()
    domains = (".".join(sender.rpartition("@")[2].split(".")[-2:]) for sender in senders)
    return not AUTHENTICATED.search(trace) and not any(domain in trace for domain in domains)


def is_from_list(message: Parsed) -> bool:
    """Whether it was sent to the list that it says it came through; who forges an address writes to its owner."""
    listed = " ".join(value for name in LIST_HEADERS for value in raw_headers(message, name)).lower()
    if not listed:
        return False
    receivers = [value for name in ("To", "Cc") for value in raw_headers(message, name)]
    addresses = (address.lower() for _, address in getaddresses([value[:MAX_RECEIVERS] for value in receivers]))
    names = set(LIST_NAME.findall(listed))
    return any(address in names or address.replace("@", ".") in names for address in addresses if "@" in address)
