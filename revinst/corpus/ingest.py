"""Somebody's own texts out of mailboxes, tables, folders and archives.

Every message or text that is met comes out once: as an `OwnText`, or as a `NotKept` with a reason.
"""

import hashlib
import json
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from revinst.corpus.mail import read_mail
from revinst.corpus.mbox import is_mbox, split_mbox
from revinst.corpus.texts import Ingested, NotKept, OwnText, check_note
from revinst.corpus.tweets import TWEET_FILES, load_tweets, read_tweet
from revinst.data.formats import BadRecord, kind_of, read_file
from revinst.data.texts import TEXT_SUFFIXES
from revinst.data.unpacked import read_text
from revinst.errors import UserError
from revinst.progress import Stage

MAIL_SUFFIXES = (".mbox", ".eml")
UNREADABLE = "the file can't be read"  # what follows may name files, and stays out of the card


class NoAddress(UserError):
    """Mail, and no --me: a mistake of the whole call, not of one file."""


class Threads:
    """Union-find over names: messages that answer each other end in one group."""

    def __init__(self) -> None:
        self.parent: dict[bytes, bytes] = {}

    def find(self, name: str) -> bytes:
        key = hashlib.blake2b(name.encode(errors="replace"), digest_size=8).digest()
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


class Ingest:
    """Reads an input once; `texts` then gives the texts with their threads, again and again.

    Memory holds a few bytes a message: texts wait in a file without a name, gone with the process.
    """

    def __init__(self, source: Path, me: Iterable[str] = (), column: str = "text", limit: int | None = None):
        self.source, self.me, self.column = source, frozenset(address.lower() for address in me), column
        self.threads, self.mail_ids = Threads(), set[bytes]()
        self.not_kept: list[NotKept] = []
        self.names: set[str] = set()
        self.num_read = 0
        self.file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115
        with Stage(f"reading {readable(source.name)}", unit="messages and texts", brief=True) as stage:
            for found in self.read(source, readable(source.name)):
                self.take(found, limit)
                stage.advance()
        if not self.num_read:
            raise UserError(f"{source}: no texts in it")

    def take(self, found: Ingested, limit: int | None) -> None:
        num_kept = self.num_read - len(self.not_kept)
        self.num_read += 1
        if isinstance(found, NotKept):
            self.not_kept.append(found)
        elif num_kept == limit:
            self.not_kept.append(NotKept(found.where, f"after --limit {limit}"))
        else:
            self.names.update(found.names)
            self.file.write(json.dumps(asdict(found)) + "\n")

    def texts(self) -> Iterator[OwnText]:
        """Texts in the order read, with ids and the groups that the whole input makes."""
        self.file.seek(0)
        for line in self.file:
            text = OwnText(**json.loads(line))
            text.names = tuple(text.names)
            text.group = self.threads.find(text.group or text.where).hex()
            text.id = hashlib.sha256(f"{text.where}\0{text.text}".encode()).hexdigest()[:16]
            yield text

    def read(self, path: Path, where: str) -> Iterator[Ingested]:
        """All that is met at a path; `where` is its name in records, relative to the input."""
        if path.is_dir():
            yield from self.read_folder(path, where)
        elif not path.is_file():
            raise UserError(f"{path}: no such file or folder")
        elif path.suffix.lower() == ".zip":
            yield from self.read_zip(path, where)
        elif path.suffix.lower() in MAIL_SUFFIXES:
            yield from self.read_mail_file(path, where)
        elif TWEET_FILES.fullmatch(path.name):
            yield from self.read_tweets(path, where)
        elif path.suffix.lower() in TEXT_SUFFIXES:
            yield read_note(path, where)
        elif kind_of(path):
            yield from self.read_table(path, where)
        elif is_mbox(path):
            yield from self.read_mail_file(path, where)
        else:
            kind = f" ({path.suffix.lower()})" if re.fullmatch(r"\.\w{1,5}", path.suffix) else ""  # no name of a person
            yield NotKept(where, f"unknown kind of file{kind}")

    def read_folder(self, path: Path, where: str) -> Iterator[Ingested]:
        if (path / "cur").is_dir() and (path / "new").is_dir():
            for file in sorted(f for part in ("cur", "new") for f in (path / part).iterdir() if f.is_file()):
                here = f"{where}/{file.parent.name}/{readable(file.name)}"
                is_draft = "D" in file.name.rpartition(":2,")[2] and ":2," in file.name
                yield NotKept(here, "a draft") if is_draft else self.read_message(file.read_bytes(), here)
            others = [entry for entry in path.iterdir() if entry.is_dir() and entry.name not in ("cur", "new", "tmp")]
        else:
            others = list(path.iterdir())
        is_archive = any(TWEET_FILES.fullmatch(entry.name) for entry in others)
        for entry in sorted(others):
            here = f"{where}/{readable(entry.name)}"
            if entry.is_symlink() and not entry.is_file():
                yield NotKept(here, "a link to a folder, or to nothing")
            elif is_archive and entry.name == "README.txt":
                yield NotKept(here, "it belongs to the archive, and its owner did not write it")
            elif not entry.name.startswith(".") or (entry.is_dir() and (entry / "cur").is_dir()):
                yield from self.read_entry(entry, here)

    def read_entry(self, path: Path, where: str) -> Iterator[Ingested]:
        """`read` for one of many: a file that can't be read is left out, and the others are read."""
        try:
            yield from self.read(path, where)
        except NoAddress:
            raise
        except UserError as error:
            reason = str(error).replace(str(path), "").lstrip(": ")
            yield NotKept(where, f"{UNREADABLE}: {readable(reason)}")

    def read_zip(self, path: Path, where: str) -> Iterator[Ingested]:
        """Unpacks into a folder that goes away; `zipfile` keeps names inside it."""
        with tempfile.TemporaryDirectory(prefix="revinst-zip-") as folder:
            try:
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(folder)
            # encrypted, of an unknown compression, cut off, with a bad path, on a full disk: each of another kind
            except (
                zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError, ValueError, zlib.error,
            ) as error:  # fmt: skip
                raise UserError(f"{path}: not a ZIP that can be unpacked ({error})") from None
            for nested in sorted(file for file in Path(folder).rglob("*") if file.suffix.lower() == ".zip"):
                yield NotKept(f"{where}/{readable(nested.relative_to(folder).as_posix())}", "an archive in an archive")
                nested.unlink()
            yield from self.read_folder(Path(folder), where)

    def read_mail_file(self, path: Path, where: str) -> Iterator[Ingested]:
        if path.suffix.lower() == ".eml":
            yield self.read_message(path.read_bytes(), where)
            return
        for number, content in enumerate(split_mbox(path), start=1):
            yield self.read_message(content, f"{where}#{number}")

    def read_message(self, content: bytes, where: str) -> Ingested:
        if not self.me:
            raise NoAddress(f"{where}: mail needs the addresses that you write from: give --me ADDRESS")
        found, thread = read_mail(content, where, self.me)
        self.threads.join(thread)
        if isinstance(found, OwnText):
            found = check_note(found)
        if isinstance(found, OwnText):
            key = hashlib.blake2b(f"{thread[0]}\0{found.text}".encode(errors="replace"), digest_size=8).digest()
            if key in self.mail_ids:
                return NotKept(where, "a copy of a mail that was read before")
            self.mail_ids.add(key)
        return found

    def read_tweets(self, path: Path, where: str) -> Iterator[Ingested]:
        for number, tweet in enumerate(load_tweets(path), start=1):
            found = read_tweet(tweet, f"{where}#{number}")
            if isinstance(found, OwnText):
                answered = tweet.get("in_reply_to_status_id_str")
                self.threads.join([found.group, *([f"tweet {answered}"] if answered else [])])
            yield found

    def read_table(self, path: Path, where: str) -> Iterator[Ingested]:
        for place, record in read_file(path):
            here = where + place.removeprefix(str(path))
            if isinstance(record, BadRecord):
                yield NotKept(here, str(record))
                continue
            fields = record if isinstance(record, dict) else {}
            value = fields.get(self.column)
            if not isinstance(value, str):
                yield NotKept(here, f"no text in the column {self.column!r} (--column names another)")
                continue
            group = here if fields.get("group") in (None, "") else str(fields["group"])
            yield check_note(OwnText(here, value.strip(), "row", read_iso(fields.get("date")), group))


def readable(name: str) -> str:
    """A file's name; bytes that are no UTF-8 in it can't be written to a record."""
    return name.encode(errors="replace").decode()


def read_note(path: Path, where: str) -> Ingested:
    try:
        text = read_text(path)
    except UnicodeDecodeError:
        return NotKept(where, "not UTF-8")
    return check_note(OwnText(where, text.strip(), "note", group=where))  # a file's date is often its copy's


def read_iso(value: object) -> str:
    """A date column in UTC; "" for what is no ISO 8601 date."""
    try:
        date = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return ""
