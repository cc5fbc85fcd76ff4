"""Passages of Jane Austen's six novels, out of Debian's package r-cran-janeaustenr, as rows for `revinst corpus`.

    apt-get download r-cran-janeaustenr && dpkg-deb -x r-cran-janeaustenr_*.deb runs/janeaustenr
    python scripts/austen.py runs/janeaustenr runs/austen.jsonl

The novels (1811 to 1817) are in the public domain; the package around them is under the MIT licence. A passage is whole
paragraphs in a row, one a chapter, drawn by a seed; `group` is its novel and chapter. No R is needed.
"""

import argparse
import json
import random
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from revinst.options import Parser

CHAPTER = re.compile(r"CHAPTER\b.*|Chapter \S+\.?|VOLUME\b.*")
STRINGS, STRING = 16, 9  # SEXP types of R's serialisation: a vector of strings, and one of them


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the package was unpacked")
    parser.add_argument("output", type=Path, metavar="ROWS.jsonl")
    parser.add_argument("--texts", type=int, default=160)
    parser.add_argument("--words", type=int, nargs=2, default=(60, 140), help="in a passage, at least and at most")
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    (path,) = options.folder.glob("**/janeaustenr/data/Rdata.rdb")
    draw = random.Random(options.seed)
    rows = []
    for lines in read_vectors(path.read_bytes()):
        for number, paragraphs in enumerate(split_chapters(lines[1:]), start=1):
            passages = list(find_passages(paragraphs, *options.words))
            if passages:
                rows.append({"text": draw.choice(passages), "group": f"{lines[0].strip()}, {number}"})
    rows = draw.sample(rows, min(options.texts, len(rows)))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} passages, {sum(len(row['text'].split()) for row in rows)} words, in {options.output}")
    return 0


def read_vectors(data: bytes) -> Iterator[list[str]]:
    """The vectors of strings in a lazy-load database: each a length of four bytes and an object, zlib-compressed.

    The format is R's own, version 3 (R Internals, 1.8, "Serialization Formats"): big-endian, after a header of 14 bytes
    and the name of the native encoding; a string is its type and flags, its length in bytes, and these.
    """
    while data:
        inflate = zlib.decompressobj()
        content, data = inflate.decompress(data[4:]), inflate.unused_data
        at = 14 + 4 + struct.unpack_from(">i", content, 14)[0]
        kind, count = struct.unpack_from(">ii", content, at)
        if kind & 0xFF != STRINGS:
            continue
        at, strings = at + 8, []
        for _ in range(count):
            flags, length = struct.unpack_from(">ii", content, at)
            assert flags & 0xFF == STRING, f"no string at byte {at}"
            at += 8 + max(length, 0)  # -1: a missing one
            strings.append(content[at - max(length, 0) : at].decode())
        yield strings


def split_chapters(lines: list[str]) -> list[list[str]]:
    """Paragraphs of each chapter; what stands before the first is left out."""
    heads = [number for number, line in enumerate(lines) if CHAPTER.fullmatch(line.strip())]
    texts = ["\n".join(lines[start + 1 : end]) for start, end in pairwise([*heads, len(lines)])]
    parts = ([" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()] for text in texts)
    return [paragraphs for paragraphs in parts if paragraphs]


def find_passages(paragraphs: list[str], least: int, most: int) -> Iterator[str]:
    """From each paragraph on as many as have `most` words together, if they have `least`."""
    counts = [len(paragraph.split()) for paragraph in paragraphs]
    for start in range(len(paragraphs)):
        end, words = start, 0
        while end < len(paragraphs) and words + counts[end] <= most:
            words, end = words + counts[end], end + 1
        if words >= least:
            yield "\n\n".join(paragraphs[start:end])


if __name__ == "__main__":
    sys.exit(main())
