"""The bytes of a file of rows: unpacked, and as UTF-8 where its encoding is certain."""

import bz2
import codecs
import gzip
import io
import lzma
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO

PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
UTF_8 = "utf-8-sig"
# UTF-32's first: its mark begins with that of UTF-16.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def open_unpacked(path: Path) -> IO[bytes]:
    openers: dict[str, Callable[[Path], IO[bytes]]] = {
        ".gz": gzip.open,  # type: ignore[dict-item]
        ".bz2": bz2.open,
        ".xz": lzma.open,
        ".zst": open_zst,
    }
    opener = openers.get(path.suffix.lower())
    return opener(path) if opener else path.open("rb")


def open_zst(path: Path) -> IO[bytes]:
    import pyarrow as pa

    return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))


def find_encoding(file: IO[bytes]) -> str:
    """By its first bytes: UTF-16 or UTF-32 only where that is certain, UTF-8 else."""
    start = file.peek(4)[:4]  # type: ignore[attr-defined]
    for mark, encoding in MARKS:
        if start.startswith(mark):
            return encoding
    if re.fullmatch(rb"[^\0]\0[^\0]\0", start):
        return "utf-16-le"
    return "utf-16-be" if re.fullmatch(rb"\0[^\0]\0[^\0]", start) else UTF_8


def open_text(path: Path) -> io.TextIOWrapper:
    """As `csv` wants it: decoded, with the ends of lines as they are."""
    file = open_unpacked(path)
    return io.TextIOWrapper(file, find_encoding(file), newline="")


def read_text(path: Path) -> str:
    """All of a file, with Unix's ends of lines."""
    with open_text(path) as file:
        return file.read().replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> Generator[bytes, None, None]:
    """Lines in UTF-8, whatever the file's encoding. What is no UTF-8 in a file that should be stays as it is."""
    with open_unpacked(path) as file:
        encoding = find_encoding(file)
        if encoding == UTF_8:
            yield from file
        else:
            yield from (line.encode() for line in io.TextIOWrapper(file, encoding, newline="\n"))
