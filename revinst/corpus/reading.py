"""Files, folders and archives to the stream of messages in them, whoever wrote these."""

import re
from collections.abc import Iterator
from pathlib import Path

from revinst.corpus.archives import Archives, is_archive
from revinst.corpus.authors import Authors
from revinst.corpus.documents.kinds import CONVERT
from revinst.corpus.kinds import ALL_KINDS, find_kind
from revinst.corpus.mail import read_mail
from revinst.corpus.mail_files import MAIL_FILES, read_beginning
from revinst.corpus.mail_kind import kind_of_maildir
from revinst.corpus.mbox import is_mbox, split_mbox
from revinst.corpus.sample import Sample
from revinst.corpus.tables import read_table
from revinst.corpus.texts import Ingested, Message, NotKept
from revinst.corpus.tweets import is_tweets
from revinst.data.formats import FILE_SUFFIXES, kind_of
from revinst.errors import NotInstalled, UserError

UNREADABLE = "the file can't be read"  # what follows may name files, and stays out of the card


class UnknownKind(UserError):
    """A file that nothing here reads; the message says what is read. reason: for a record, without any name."""

    def __init__(self, path: Path):
        kind = f" ({path.suffix.lower()})" if re.fullmatch(r"\.\w{1,5}", path.suffix) else ""  # no name of a person
        self.reason = f"unknown kind of file{kind}"
        known = "; ".join(kind.name for kind in ALL_KINDS)
        mails, tables = ", ".join(MAIL_FILES), ", ".join(FILE_SUFFIXES)
        super().__init__(f"{path}: {self.reason}; known are mbox files, {mails}, {tables}, ZIP and tar; {known}")


class Reader:
    """Reads what lies at a path.

    authors: mails of others are not taken apart, unless `everybody`. column: of tables, with the text. sample: looks at
    what is read.
    """

    def __init__(
        self, authors: Authors, column: str = "text", sample: Sample | None = None, *, everybody: bool = False
    ):
        self.authors, self.column, self.sample, self.everybody = authors, column, sample, everybody
        self.archives = Archives()

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
        suffix = path.suffix.lower()
        if is_archive(path):
            yield from self.read_archive(path, where)
        elif suffix in MAIL_FILES:
            yield self.read_message(MAIL_FILES[suffix](path), where)
        elif suffix in CONVERT:
            raise UserError(f"{path}: {CONVERT[suffix]}")
        elif kind_of(path):
            yield from read_table(path, where, self.column)
        elif suffix == ".mbox" or is_mbox(path):
            for number, content in enumerate(split_mbox(path), start=1):
                yield self.read_message(content, f"{where}#{number}")
        else:
            raise UnknownKind(path)

    def read_folder(self, path: Path, where: str) -> Iterator[Ingested]:
        if (path / "cur").is_dir() and (path / "new").is_dir():
            for file in sorted(f for part in ("cur", "new") for f in (path / part).iterdir() if f.is_file()):
                here = f"{where}/{file.parent.name}/{readable(file.name)}"
                reason = kind_of_maildir(file.name)
                yield NotKept(here, reason) if reason else self.read_message(read_beginning(file), here)
            others = [entry for entry in path.iterdir() if entry.is_dir() and entry.name not in ("cur", "new", "tmp")]
        else:
            others = list(path.iterdir())
        is_export = any(map(is_tweets, others)) or (path / "messages" / "index.json").is_file()  # of X, or Discord
        for entry in sorted(others):
            here = f"{where}/{readable(entry.name)}"
            if entry.is_symlink() and not entry.is_file():
                yield NotKept(here, "a link to a folder, or to nothing")
            elif is_export and entry.name == "README.txt":
                yield NotKept(here, "it belongs to the archive, and its owner did not write it")
            elif not entry.name.startswith(".") or (entry.is_dir() and (entry / "cur").is_dir()):
                yield from self.read_entry(entry, here)

    def read_entry(self, path: Path, where: str) -> Iterator[Ingested]:
        """`read` for one of many: a file that can't be read is left out, and the others are read."""
        try:
            yield from self.read(path, where)
        except NotInstalled:
            raise
        except UnknownKind as error:
            yield NotKept(where, error.reason)
        except UserError as error:
            reason = str(error).replace(str(path), "").lstrip(": ")
            yield NotKept(where, f"{UNREADABLE}: {readable(reason)}")

    def read_archive(self, path: Path, where: str) -> Iterator[Ingested]:
        with self.archives.unpack(path) as (folder, left_out):
            for each in left_out:
                yield NotKept(f"{where}/{readable(each.where)}", each.reason)
            yield from self.read(folder, where)

    def read_message(self, content: bytes, where: str) -> Message:
        message = read_mail(content, where, self.authors.me, self.everybody)
        if self.sample:
            self.sample.look(message, self.authors, content)
        return message


def readable(name: str) -> str:
    """A file's name; bytes that are no UTF-8 in it can't be written to a record."""
    return name.encode(errors="replace").decode()
