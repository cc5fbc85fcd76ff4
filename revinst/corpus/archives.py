"""ZIP and tar archives, unpacked within bounds: no bomb, no link, nothing outside, no archives without end."""

import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path

from revinst.corpus.texts import NotKept
from revinst.errors import UserError

TAR_SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tbz2", ".txz")
MAX_DEPTH = 3  # of an archive in an archive
MAX_ARCHIVES = 1000  # that lie in others, in all
MAX_MEMBERS = 1_000_000
MAX_RATIO = 100  # unpacked over packed; texts are packed to a third or a tenth
RATIO_FROM = 256 << 20  # bytes, unpacked: a small archive may be packed as well as it likes
# encrypted, of an unknown compression, cut off, with a bad path, on a full disk: each of another kind
DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError, EOFError, OSError, ValueError, zlib.error,
    LZMAError,
)  # fmt: skip


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith((".zip", *TAR_SUFFIXES))


class Archives:
    """Unpacks archives into folders that go away; counts, so that those within others come to an end."""

    def __init__(self) -> None:
        self.depth, self.num_nested = 0, 0
        self.allowed = 0  # bytes that may still be unpacked from the outermost and all within it

    @contextmanager
    def unpack(self, path: Path) -> Iterator[tuple[Path, list[NotKept]]]:
        """(folder, what was left out of it, by its name in the archive). Raises UserError."""
        if self.depth == MAX_DEPTH:
            raise UserError(f"{path}: an archive in archives, {MAX_DEPTH} deep; unpack it yourself")
        self.num_nested = self.num_nested + 1 if self.depth else 0
        if self.num_nested > MAX_ARCHIVES:
            raise UserError(f"{path}: the {MAX_ARCHIVES + 1}th archive in one archive; unpack it yourself")
        if not self.depth:
            self.allowed = max(RATIO_FROM, MAX_RATIO * path.stat().st_size)
        self.depth += 1
        try:
            with tempfile.TemporaryDirectory(prefix="revinst-unpacked-") as folder:
                yield Path(folder), self.fill(path, Path(folder))
        finally:
            self.depth -= 1

    def fill(self, path: Path, folder: Path) -> list[NotKept]:
        try:
            if zipfile.is_zipfile(path) or path.suffix.lower() == ".zip":
                return self.fill_from_zip(path, folder)
            return self.fill_from_tar(path, folder)
        except DAMAGED as error:
            kind = path.suffix.lower().lstrip(".").upper()
            raise UserError(f"{path}: not a {kind} that can be unpacked ({error})") from None

    def fill_from_zip(self, path: Path, folder: Path) -> list[NotKept]:
        """`zipfile` reads no more of a member than the size that it states, and keeps names inside the folder."""
        left_out = []
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            self.take(path, folder, sum(member.file_size for member in members), len(members))
            for member in members:
                if stat.S_ISLNK(member.external_attr >> 16):
                    left_out.append(NotKept(member.filename, "a link in an archive"))
                else:
                    archive.extract(member, folder)
        return left_out

    def fill_from_tar(self, path: Path, folder: Path) -> list[NotKept]:
        left_out = []
        with tarfile.open(path, mode="r|*") as archive:
            for number, member in enumerate(archive, start=1):
                if number > MAX_MEMBERS:
                    raise UserError(f"{path}: more than {MAX_MEMBERS:,} files in an archive; unpack it yourself")
                if member.isdir():
                    continue
                if not member.isfile():
                    left_out.append(NotKept(member.name, "a link in an archive"))
                    continue
                self.take(path, folder, member.size)
                try:
                    archive.extract(member, folder, filter="data")
                except tarfile.FilterError:
                    left_out.append(NotKept(member.name, "it leads out of the archive"))
        return left_out

    def take(self, path: Path, folder: Path, num_bytes: int, num_members: int = 1) -> None:
        """Counts what is about to be unpacked. Raises UserError where it is too much."""
        self.allowed -= num_bytes
        if self.allowed < 0 or num_members > MAX_MEMBERS:
            raise UserError(f"{path}: it unpacks to more than {MAX_RATIO} times its size; no export does")
        if num_bytes > (free := shutil.disk_usage(folder).free):
            raise UserError(
                f"{path}: it needs {num_bytes / 2**30:.1f} GiB of disk to be unpacked, and {folder.parent} has "
                f"{free / 2**30:.1f} GiB free; set TMPDIR to another place"
            )
