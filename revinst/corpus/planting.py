"""Canaries in the training part of a data set, by which `evaluate --secrets` tells what a model gives away.

They are planted last, so that no instruction, filter or part depends on them, and the same command without them writes
the same set without them.
"""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from revinst.corpus.texts import Record
from revinst.errors import UserError
from revinst.evaluation.canaries import MAX_CANARIES, Canary, make_canaries, takes_canary
from revinst.runs.files import write_private


def check_canaries(count: int) -> None:
    if not 0 <= count <= MAX_CANARIES:
        raise UserError(f"--canaries {count}: from 0 to {MAX_CANARIES}")


class Planted(Sequence[Record]):
    """Records, some of which have a canary at the end of their text."""

    def __init__(self, records: Sequence[Record], canaries: Mapping[int, Canary]):
        self.records, self.canaries = records, canaries

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> Record:  # type: ignore[override]  # nobody asks for a slice
        record = self.records[number]
        canary = self.canaries.get(number)
        return record | {"text": canary.plant(record["text"])} if canary else record


def plant_canaries(
    records: Sequence[Record], numbers: Sequence[int], parts: Sequence[str], count: int, seed: int, path: Path
) -> Sequence[Record]:
    """The records with `count` canaries, each in a training text of its own; these and as many others are in the file.

    numbers: of the records that are kept; parts: theirs. Without canaries the file goes. As many training texts as have
    one are left without. Raises UserError where there are too few.
    """
    if not count:
        path.unlink(missing_ok=True)
        return records
    train = [number for number, part in zip(numbers, parts, strict=True) if part == "train"]
    train = [number for number in train if takes_canary(records[number]["text"])]
    if len(train) < 2 * count:
        most = f"at most --canaries {len(train) // 2}"
        raise UserError(f"--canaries {count}: only {len(train)} training texts are short enough for one; {most}")
    planted, controls = make_canaries(count, seed)
    write_private(path, json.dumps({each.name: each.text for each in (*planted, *controls)}, indent=1))
    places = random.Random(seed).sample(train, count)
    return Planted(records, dict(zip(places, planted, strict=True)))
