"""Time and memory of preparing made rows: read, split, encode, pack, as `revinst fit` does before it trains.

    python scripts/bench_memory.py --rows 1000000

Rows of about 435 bytes are made from the quickstart's words, the same in every run, and prepared in a process of its
own with an empty cache. Its memory is read twenty times a second: `anonymous` is what it needs, `resident` has pages of
mapped files besides, which the system may take back at any time. Libraries alone take some 0.4 GiB of it.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from revinst.options import Parser

SHARE_COPIED = 0.02  # rows with the instruction of another, so that there are groups


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--base", default="models/smollm2-135m")
    parser.add_argument("--prepare", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare, options.base)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.jsonl"
        make_rows(source, options.rows)
        command = [sys.executable, __file__, "--prepare", str(source), "--base", options.base]
        start = time.perf_counter()
        child = subprocess.Popen(command, env=os.environ | {"REVINST_CACHE": folder}, stdout=subprocess.PIPE, text=True)
        anonymous, resident = watch_memory(child)
        result = {"rows": options.rows, "mb": source.stat().st_size / 1e6, "seconds": time.perf_counter() - start}
    result |= {"peak_anonymous_gib": anonymous, "peak_resident_gib": resident}
    assert child.stdout is not None
    print(json.dumps(result | json.loads(child.stdout.read().splitlines()[-1]), indent=2))


def make_rows(path: Path, count: int) -> None:
    from importlib.resources import files

    quickstart = files("revinst.data").joinpath("quickstart.jsonl").read_text(encoding="utf-8")
    words = sorted({word for line in quickstart.splitlines() for word in json.loads(line)["response"].split()})
    generator = random.Random(0)
    instruction = ""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            if generator.random() >= SHARE_COPIED:
                instruction = " ".join(generator.choices(words, k=8))
            response = " ".join(generator.choices(words, k=46))
            row = {"instruction": instruction, "response": response, "category": f"kind {number % 8}"}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def watch_memory(child: subprocess.Popen) -> tuple[float, float]:
    """GiB at their highest, anonymous and resident, until the process ends. Reads Linux' /proc."""
    anonymous = resident = 0
    while child.poll() is None:
        lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines if line.endswith("kB"))
        anonymous = max(anonymous, int(status.get("RssAnon", "0 kB").split()[0]))
        resident = max(resident, int(status.get("VmHWM", "0 kB").split()[0]))
        time.sleep(0.05)
    return anonymous / 2**20, resident / 2**20


def prepare(source: str, base: str) -> None:
    from revinst.config.settings import DataSettings
    from revinst.data.datamodule import InstructionDataModule

    data = InstructionDataModule(DataSettings(source=source), base)
    data.setup()
    parts = {part: len(getattr(data.split, part)) for part in ("train", "val", "heldout")}
    print(json.dumps(parts | {"packed_rows": len(data.train_rows), "tokens": int(data.train_documents.offsets[-1])}))


if __name__ == "__main__":
    main()
