"""scripts/austen.py: novels out of R's lazy-load database, their chapters and passages."""

import json
import struct
import sys
import zlib

from scripts import austen

BOOK = """A NOVEL

By a Lady

CHAPTER 1

One two three
four five.

Six seven.

CHAPTER 2

Eight, nine — ten eleven twelve."""


def serialise(strings: list[str]) -> bytes:
    """As R does, version 3: a header, the native encoding, the vector."""
    body = b"X\n" + struct.pack(">iii", 3, 0x40201, 0x30500) + struct.pack(">i", 5) + b"UTF-8"
    body += struct.pack(">ii", 16, len(strings))
    for string in strings:
        body += struct.pack(">ii", 0x40009, len(string.encode())) + string.encode()
    return struct.pack(">I", len(body)) + zlib.compress(body)


def test_vectors_chapters_and_passages():
    read = list(austen.read_vectors(serialise(BOOK.split("\n")) + serialise(["", "Ünter"])))
    assert read == [BOOK.split("\n"), ["", "Ünter"]]
    first, second = austen.split_chapters(read[0])
    assert first == ["One two three four five.", "Six seven."] and second == ["Eight, nine — ten eleven twelve."]
    assert list(austen.find_passages(first, 2, 7)) == ["One two three four five.\n\nSix seven.", "Six seven."]
    assert list(austen.find_passages(first, 3, 6)) == ["One two three four five."]


def test_rows(tmp_path, monkeypatch):
    place = tmp_path / "usr" / "janeaustenr" / "data"
    place.mkdir(parents=True)
    (place / "Rdata.rdb").write_bytes(serialise(BOOK.split("\n")))
    output = tmp_path / "made" / "rows.jsonl"
    monkeypatch.setattr(sys, "argv", ["austen", str(tmp_path), str(output), "--words", "4", "20"])
    assert austen.main() == 0
    rows = sorted((json.loads(line) for line in output.read_text().splitlines()), key=lambda row: row["group"])
    assert [row["group"] for row in rows] == ["A NOVEL, 1", "A NOVEL, 2"] and rows[0]["text"].startswith("One two")
