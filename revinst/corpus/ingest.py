"""Somebody's own texts out of whatever holds them: the stream of messages, judged by who wrote them.

Every message or text that is met counts once: as an `OwnText`, or as a `NotKept` with a reason.
"""

import hashlib
import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from revinst.corpus.authors import Authors, join_own, split_chats
from revinst.corpus.reading import Reader, readable
from revinst.corpus.sample import Sample
from revinst.corpus.texts import NOT_MINE, Ingested, Message, NotKept, OwnText
from revinst.data.examples import check_text
from revinst.data.formats import BadRecord
from revinst.errors import UserError
from revinst.progress import Stage


class Threads:
    """Union-find over names: messages that answer each other end in one group."""

    def __init__(self) -> None:
        self.parent: dict[int, int] = {}

    def find(self, name: str) -> int:
        return self.root(hash_name(name))

    def root(self, key: int) -> int:
        while (above := self.parent.setdefault(key, key)) != key:
            self.parent[key] = self.parent[above]
            key = above
        return key

    def join(self, names: Iterable[str]) -> None:
        first, *others = names
        for name in others:
            # the smaller key is the group's name, whatever the order of the messages
            low, high = sorted((self.find(first), self.find(name)))
            self.parent[high] = low


def hash_name(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(errors="replace"), digest_size=8).digest())


class Ingest:
    """Reads an input once; `texts` then gives the texts with their threads, again and again.

    me: addresses, names and ids. sample: looks at what is read. Memory holds a few bytes a message: texts wait in a
    file without a name, gone with the process. Raises UserError where authors are named and none of them is me.
    """

    def __init__(
        self,
        source: Path,
        me: Iterable[str] = (),
        column: str = "text",
        limit: int | None = None,
        join_minutes: float = 0,
        sample: Sample | None = None,
    ):
        self.source, self.limit, self.sample = source, limit, sample
        self.authors = Authors(me)
        self.threads, self.seen = Threads(), set[int]()
        self.not_kept: list[NotKept] = []
        self.names: set[str] = set()  # of all in my conversations; `own_names` of mine, as far as they are known
        self.named: dict[str, array[int]] = {}  # by mails of others: name -> conversations
        self.mine = array("Q")  # conversations that I sent a mail in
        self.own_names = {name for name in me if "@" not in name}
        self.num_read = 0
        self.file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115
        messages = Reader(self.authors, column, sample).read(source, readable(source.name))
        with Stage(f"reading {readable(source.name)}", unit="messages and texts", brief=True) as stage:
            for found in split_chats(join_own(messages, self.authors, join_minutes) if join_minutes else messages):
                self.take(found)
                stage.advance()
        if not self.num_read:
            raise UserError(f"{source}: no texts in it")
        mine = set(map(self.threads.root, self.mine))
        self.names.update(
            name for name, keys in self.named.items() if not mine.isdisjoint(map(self.threads.root, keys))
        )
        self.authors.check(source)

    def take(self, found: Ingested) -> None:
        num_kept = self.num_read - len(self.not_kept)
        self.num_read += 1
        reason = found.reason if isinstance(found, NotKept) else self.why_not(found)
        if self.sample and isinstance(found, Message) and found.kind != "mail":  # these were looked at as a whole
            self.sample.look(found, self.authors)
        if not reason and num_kept == self.limit:
            reason = f"after --limit {self.limit}"
        if reason or isinstance(found, NotKept):
            self.not_kept.append(NotKept(found.where, reason))
            return
        text = OwnText(
            id=hashlib.sha256(f"{found.where}\0{found.text}".encode()).hexdigest()[:16],
            where=found.where,
            text=found.text,
            kind=found.kind,
            author=self.authors.my_name(found.author) if found.author else "",
            date=found.date,
            group=found.conversation,
        )
        self.file.write(json.dumps(asdict(text)) + "\n")

    def why_not(self, message: Message) -> str:
        """Why it is no text of mine; "" where it is one. Also joins its thread."""
        self.authors.count(message)
        is_me = self.authors.is_me(message.author)
        self.keep_names(message, is_me)
        self.threads.join([message.conversation, *message.answers])
        if message.author and not is_me:
            return "not sent by me" if message.kind == "mail" else NOT_MINE
        if message.left_out:
            return message.left_out
        try:
            check_text(message.text, "the text")
        except BadRecord as error:
            return str(error)
        if not message.text:
            return "empty"
        if message.kind == "mail":  # one may lie in several folders, and one that was sent in the folder of a list
            key = hash_name(f"{message.conversation}\0{message.text}")
            if key in self.seen:
                return "a copy of a mail that was read before"
            self.seen.add(key)
        return ""

    def keep_names(self, message: Message, is_me: bool) -> None:
        """Those of mails of others count where I wrote in their conversation, which is known at the end."""
        if message.kind != "mail" or is_me:
            self.names.update(message.names)
        if message.kind == "mail":
            key = hash_name(message.conversation)
            if is_me and not message.left_out:
                self.mine.append(key)
            for name in () if is_me else message.names:
                self.named.setdefault(name, array("Q")).append(key)
        elif is_me:
            self.own_names.update(message.author)

    def texts(self) -> Iterator[OwnText]:
        """Texts in the order read, with the groups that the whole input makes."""
        self.file.seek(0)
        for line in self.file:
            text = OwnText(**json.loads(line))
            text.group = f"{self.threads.find(text.group):016x}"
            yield text


def list_authors(source: Path, column: str) -> Authors:
    """The authors of an input, counted, whoever they are."""
    authors = Authors(())
    with Stage(f"reading {readable(source.name)}", unit="messages and texts", brief=True) as stage:
        for found in Reader(authors, column).read(source, readable(source.name)):
            if isinstance(found, Message):
                authors.count(found)
            stage.advance()
    return authors
