"""Time and memory of `revinst corpus` around the model: reading, redaction, filters, parts, files.

    python scripts/bench_corpus.py --rows 100000

Made texts and made scores; no model is loaded. Memory is the growth of this process' peak over the first stage's start.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from revinst.corpus.build import build_dataset, build_texts, shard_path
from revinst.corpus.filters import Thresholds
from revinst.corpus.settings import Reading, Selection
from revinst.corpus.texts import Record, write_records
from revinst.options import Parser
from revinst.system import peak_bytes

ME = "mara@example.org"
SHARD_ROWS = 1024


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=100, help="of a text")
    options = parser.parse_args()
    result: dict[str, Any] = {"rows": options.rows}
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "mail.mbox", Path(folder) / "out"
        write_mails(source, options.rows, options.words)
        result["mbox_mib"] = source.stat().st_size / 2**20
        before, start = peak_mib(), time.perf_counter()
        texts = build_texts(out, Reading(source, (ME,), redact=True))
        result |= {"read_s": time.perf_counter() - start, "read_mib": peak_mib() - before}
        for number, first in enumerate(range(0, len(texts), SHARD_ROWS)):
            write_records(shard_path(out, number), score(texts[first : first + SHARD_ROWS]))
        start = time.perf_counter()
        selection = Selection(Thresholds(), heldout=0.1, val=0.05)
        run = {"name": "made", "adapter": "", "base": "", "round": 0}
        card = build_dataset(out, out, selection, {"redact": True, "shard_rows": SHARD_ROWS}, run)
        result |= {"files_s": time.perf_counter() - start, "all_mib": peak_mib() - before}
        result |= {"kept": card["counts"]["kept"]}
    print(json.dumps(result, indent=2))


def peak_mib() -> float:
    return peak_bytes() / 2**20


def write_mails(path: Path, count: int, words: int) -> None:
    vocabulary = [line["response"].lower() for line in map(json.loads, open_quickstart())]
    known = sorted({word for text in vocabulary for word in text.split() if word.isalpha()})
    generator = random.Random(0)
    with path.open("wb") as file:
        for number in range(count):
            message = EmailMessage()
            message["From"], message["To"] = f"Mara Example <{ME}>", f"Person{number % 500} <p{number % 500}@x.org>"
            message["Subject"], message["Message-ID"] = f"Subject{number}", f"<{number}@x.org>"
            message["Date"] = f"Mon, 05 Jan 2026 {number % 24:02}:{number % 60:02}:00 +0000"
            message.set_content(" ".join(generator.choices(known, k=words)))
            file.write(b"From x Mon Jan  5 08:30:00 2026\n" + message.as_bytes() + b"\n\n")


def open_quickstart() -> Iterator[str]:
    from importlib.resources import files

    with files("revinst.data").joinpath("quickstart.jsonl").open(encoding="utf-8") as lines:
        yield from lines


def score(rows: list[Record]) -> Iterator[Record]:
    generator = random.Random(rows[0]["id"])
    for row in rows:
        text = " ".join(generator.sample(row["text"].split(), 12))
        scores = {
            "candidates": [text],
            "counts": [1],
            "votes": [1.0],
            "pick": "consensus",
            "log_p": -1.0,
            "gain": 0.5,
            "ifd": 0.6,
            "rifd": 0.5,
        }
        yield row | {"instruction": text} | scores


if __name__ == "__main__":
    main()
