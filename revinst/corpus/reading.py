"""Files, folders and archives to the stream of messages in them, whoever wrote these."""

import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from revinst.corpus.authors import Authors
from revinst.corpus.kinds import find_kind
from revinst.corpus.mail import read_mail
from revinst.corpus.mail_kind import kind_of_maildir
from revinst.corpus.mbox import MAX_MAIL, is_mbox, split_mbox
from revinst.corpus.sample import Sample
from revinst.corpus.tables import read_table
from revinst.corpus.texts import Ingested, Message, NotKept
from revinst.corpus.tweets import is_tweets
from revinst.data.formats import kind_of
from revinst.data.texts import TEXT_SUFFIXES
from revinst.data.unpacked import read_text
from revinst.errors import UserError

MAIL_SUFFIXES = (".mbox", ".eml")
UNREADABLE = "the file can't be read"  # what follows may name files, and stays out of the card


class Reader:
    """Reads what lies at a path.

    authors: mails of others are not taken apart. column: of tables, with the text. sample: looks at what is read.
    """

    def __init__(self, authors: Authors, column: str = "text", sample: Sample | None = None):
        self.authors, self.column, self.sample = authors, column, sample

    def read(self, path: Path, where: str) -> Iterator[Ingested]:
        """All that is met at a path; `where` is its name in records, relative to the input."""
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        if kind := find_kind(path):
            yield from kind.read(path, where)
        elif path.is_dir():
            yield from self.read_folder(path, where)
        else:
            yield from self.read_file(path, where)

    def read_file(self, path: Path, where: str) -> Iterator[Ingested]:
        if path.suffix.lower() == ".zip":
            yield from self.read_zip(path, where)
        elif path.suffix.lower() in MAIL_SUFFIXES:
            yield from self.read_mail_file(path, where)
        elif path.suffix.lower() in TEXT_SUFFIXES:
            yield read_note(path, where)
        elif kind_of(path):
            yield from read_table(path, where, self.column)
        elif is_mbox(path):
            yield from self.read_mail_file(path, where)
        else:
            kind = f" ({path.suffix.lower()})" if re.fullmatch(r"\.\w{1,5}", path.suffix) else ""  # no name of a person
            yield NotKept(where, f"unknown kind of file{kind}")

    def read_folder(self, path: Path, where: str) -> Iterator[Ingested]:
        if (path / "cur").is_dir() and (path / "new").is_dir():
            for file in sorted(f for part in ("cur", "new") for f in (path / part).iterdir() if f.is_file()):
                here = f"{where}/{file.parent.name}/{readable(file.name)}"
                reason = kind_of_maildir(file.name)
                yield NotKept(here, reason) if reason else self.read_message(read_beginning(file), here)
            others = [entry for entry in path.iterdir() if entry.is_dir() and entry.name not in ("cur", "new", "tmp")]
        else:
            others = list(path.iterdir())
        is_archive = any(map(is_tweets, others)) or (path / "messages" / "index.json").is_file()  # of X, or Discord
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
            yield from self.read(Path(folder), where)

    def read_mail_file(self, path: Path, where: str) -> Iterator[Ingested]:
        if path.suffix.lower() == ".eml":
            yield self.read_message(read_beginning(path), where)
            return
        for number, content in enumerate(split_mbox(path), start=1):
            yield self.read_message(content, f"{where}#{number}")

    def read_message(self, content: bytes, where: str) -> Message:
        message = read_mail(content, where, self.authors.me)
        if self.sample:
            self.sample.look(message, self.authors, content)
        return message


def read_beginning(path: Path) -> bytes:
    """Of a file with one mail; its text stands before what it carries."""
    with path.open("rb") as file:
        return file.read(MAX_MAIL)


def readable(name: str) -> str:
    """A file's name; bytes that are no UTF-8 in it can't be written to a record."""
    return name.encode(errors="replace").decode()


def read_note(path: Path, where: str) -> Ingested:
    try:
        text = read_text(path)
    except UnicodeDecodeError:
        return NotKept(where, "not UTF-8")
    return Message(where, text.strip(), "note", conversation=where)  # a file's date is often its copy's
