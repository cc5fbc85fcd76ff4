"""Who wrote what was read, and which of them is the owner."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from email.utils import parseaddr

from rich.table import Table

from revinst.corpus.texts import Ingested, Message
from revinst.errors import UserError

ADDRESS = re.compile(r"\A[^\s@]+@[^\s@]+\Z")
PHONE = re.compile(r"\+?[\d\s()./-]{6,}")
UNSEEN = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")  # WhatsApp wraps phone numbers into these
MIN_CONVERSATION, PAUSE_MINUTES = 20, 8 * 60  # messages by anybody, and a night
EXAMPLES = 5  # authors that an error names


def author_key(name: str) -> str:
    """What is compared: `@Alex  Moreau` -> `alex moreau`, `+49 (170) 555` -> `+49170555`."""
    name = " ".join(UNSEEN.sub("", name).split()).removeprefix("@").casefold()
    return re.sub(r"[^\d+]", "", name) if PHONE.fullmatch(name) else name


def read_me(given: Sequence[str]) -> tuple[str, ...]:
    """`["Mara <Mara@Example.org>", "Mara L."]` -> `("mara l.", "mara@example.org")`: addresses, names and ids."""
    keys = set()
    for text in given:
        address = parseaddr(text)[1]
        key = author_key(address if ADDRESS.match(address) else text)
        if not key:
            raise UserError(
                f"--me {text!r}: give a name, an id or an address; --list_authors prints those in the input"
            )
        keys.add(key)
    return tuple(sorted(keys))


class Authors:
    """Counts the authors of each kind of export; `me` as given by `read_me`."""

    def __init__(self, me: Iterable[str]):
        self.me = frozenset(map(author_key, me))
        self.counts: dict[str, Counter[tuple[str, ...]]] = {}

    def is_me(self, author: Sequence[str]) -> bool:
        return any(author_key(name) in self.me for name in author)

    def my_name(self, author: Sequence[str]) -> str:
        """The first of the author's names that is one of mine."""
        return next(name for name in author if author_key(name) in self.me)

    def count(self, message: Message) -> None:
        if message.author:
            self.counts.setdefault(message.source, Counter())[message.author] += 1

    def check(self, where: object) -> None:
        """Raises UserError where a kind of export names several authors and none of them is me: which is mine then?

        Without --me one author is enough: it may be anybody.
        """
        for source, counts in self.counts.items():
            if len(counts) > bool(self.me) and not any(map(self.is_me, counts)):
                examples = ", ".join(author[0] for author, _ in counts.most_common(EXAMPLES))
                more = f" and {len(counts) - EXAMPLES} more" if len(counts) > EXAMPLES else ""
                who = "is you" if self.me else "is known to be you"
                raise UserError(
                    f"{where}: {source} in it names its authors ({examples}{more}), of whom none {who}; "
                    "give --me ADDRESS, NAME or ID as the source has it; --list_authors prints them all"
                )

    def table(self) -> Table:
        table = Table("from", "messages", "author", title="authors in the input")
        for source, counts in self.counts.items():
            for author, count in counts.most_common():
                table.add_row(source, str(count), " | ".join(author).encode(errors="replace").decode())
        return table


def join_own(messages: Iterable[Ingested], authors: Authors, minutes: float) -> Iterator[Ingested]:
    """The stream, in which messages of mine that follow each other in a chat within `minutes` are one, a line each."""

    def is_mine(message: Message) -> bool:
        is_me = not message.author or authors.is_me(message.author)
        return message.kind == "chat" and not message.left_out and is_me

    open_one: Message | None = None  # of mine, which the next may go on with
    last = ""  # when its newest part was sent
    for message in messages:
        if not isinstance(message, Message) or not is_mine(message):
            if open_one:
                yield open_one
            open_one = None
            yield message
            continue
        follows = open_one and message.conversation == open_one.conversation
        if open_one and follows and minutes_between(last, message.date) <= minutes:
            open_one.text += f"\n{message.text}"
        else:
            if open_one:
                yield open_one
            open_one = message
        last = message.date
    if open_one:
        yield open_one


def split_chats(messages: Iterable[Ingested]) -> Iterator[Ingested]:
    """The stream, in which a long chat is several conversations: one ends where many messages are followed by a pause.

    Else the only chat that somebody has would be one group, of which nothing can be held out.
    """
    open_parts: dict[str, tuple[int, int, str]] = {}  # of a chat: the part, messages in it so far, when the last was
    for message in messages:
        if isinstance(message, Message) and message.kind == "chat":
            part, count, last = open_parts.get(message.conversation, (0, 0, ""))
            is_known = bool(last and message.date)
            if count >= MIN_CONVERSATION and is_known and minutes_between(last, message.date) >= PAUSE_MINUTES:
                part, count = part + 1, 0
            open_parts[message.conversation] = part, count + 1, message.date or last
            message.conversation += f"\0{part}" * bool(part)
        yield message


def minutes_between(early: str, late: str) -> float:
    """Infinite where a date is unknown."""
    if not early or not late:
        return float("inf")
    return abs(datetime.fromisoformat(late) - datetime.fromisoformat(early)) / timedelta(minutes=1)
