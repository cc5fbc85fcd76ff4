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
from revinst.corpus.contexts import Contexts
from revinst.corpus.reading import Reader, readable
from revinst.corpus.sample import Sample
from revinst.corpus.texts import NOT_MINE, NOT_SENT, Ingested, Message, NotKept, OwnText
from revinst.corpus.threads import Threads, hash_name
from revinst.data.examples import check_text
from revinst.data.formats import BadRecord
from revinst.errors import UserError
from revinst.progress import Stage


class Ingest:
    """Reads an input once; `texts` then gives the texts with their threads, again and again.

    me: addresses, names and ids. sample: looks at what is read. contexts: what texts answer is kept with them. Memory
    holds a few bytes a message: texts wait in a file without a name, gone with the process. Raises UserError where
    authors are named and none of them is me.
    """

    def __init__(
        self,
        source: Path,
        me: Iterable[str] = (),
        column: str = "text",
        limit: int | None = None,
        join_minutes: float = 0,
        sample: Sample | None = None,
        *,
        contexts: bool = False,
    ):
        self.source, self.limit, self.sample = source, limit, sample
        self.authors = Authors(me)
        self.threads, self.seen = Threads(), set[int]()
        self.contexts = Contexts() if contexts else None
        self.not_kept: list[NotKept] = []
        self.names: set[str] = set()  # of all in my conversations; `own_names` of mine, as far as they are known
        self.named: dict[str, array[int]] = {}  # by mails of others: name -> conversations
        self.mine = array("Q")  # conversations that I sent a mail in
        self.own_names = {name for name in me if "@" not in name}
        self.num_read = 0
        self.file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115
        reader = Reader(self.authors, column, sample, everybody=contexts)
        messages = reader.read(source, readable(source.name))
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
        if self.contexts and isinstance(found, Message) and reason in (NOT_MINE, NOT_SENT):
            self.contexts.look(found)
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
            context=self.contexts.said_before(found) if self.contexts else "",
        )
        self.file.write(json.dumps([asdict(text), found.reply_to]) + "\n")

    def why_not(self, message: Message) -> str:
        """Why it is no text of mine; "" where it is one. Also joins its thread."""
        self.authors.count(message)
        is_me = self.authors.is_me(message.author)
        self.keep_names(message, is_me)
        self.threads.join([message.conversation, *message.answers])
        if message.author and not is_me:
            return NOT_SENT if message.kind == "mail" else NOT_MINE
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
        """Texts in the order read, with the groups, and the messages that they name, of the whole input."""
        self.file.seek(0)
        for line in self.file:
            fields, reply_to = json.loads(line)
            text = OwnText(**fields)
            if self.contexts and reply_to:
                text.context = self.contexts.find(reply_to)
            text.group = f"{self.threads.find(text.group):016x}"
            yield text

    def contexts_of(self, places: set[str]) -> dict[str, str]:
        """Of the texts from these places, what they answer, where that is kept."""
        texts = self.texts() if self.contexts else ()
        return {text.where: text.context for text in texts if text.context and text.where in places}


def list_authors(source: Path, column: str) -> Authors:
    """The authors of an input, counted, whoever they are."""
    authors = Authors(())
    with Stage(f"reading {readable(source.name)}", unit="messages and texts", brief=True) as stage:
        for found in Reader(authors, column).read(source, readable(source.name)):
            if isinstance(found, Message):
                authors.count(found)
            stage.advance()
    return authors
