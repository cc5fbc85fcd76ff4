"""Train, validation and held-out parts that no group of duplicates straddles."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from revinst.data.examples import Example
from revinst.errors import UserError

MIN_RESPONSE_WORDS = 4  # shorter responses ("Yes", "The Nile") are shared by unrelated rows
PARTS = ("heldout", "val", "train")


@dataclass(frozen=True, slots=True)
class Split:
    """Ids of each part. `heldout` is only reported on; `val` is what choices are made on."""

    train: list[str]
    val: list[str]
    heldout: list[str]

    @property
    def hash(self) -> str:
        content = json.dumps([sorted(self.train), sorted(self.val), sorted(self.heldout)])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def to_json(self) -> dict:
        return {"hash": self.hash, "train": self.train, "val": self.val, "heldout": self.heldout}


def normalise(text: str) -> str:
    """Lower case, letters and digits only, single spaces: `"What's  THIS?"` -> `"what s this"`."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def group_duplicates(examples: list[Example]) -> list[list[int]]:
    """Groups of row numbers that share a normalised instruction, response or context (transitively)."""
    parent = list(range(len(examples)))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first_with: dict[tuple[str, str], int] = {}
    for row, example in enumerate(examples):
        for key in duplicate_keys(example):
            parent[find(row)] = find(first_with.setdefault(key, row))
    groups = defaultdict(list)
    for row in range(len(examples)):
        groups[find(row)].append(row)
    return list(groups.values())


def duplicate_keys(example: Example) -> Iterable[tuple[str, str]]:
    yield "instruction", normalise(example.instruction)
    response = normalise(example.response)
    if len(response.split()) >= MIN_RESPONSE_WORDS:
        yield "response", response
    context = normalise(example.context)
    if context:
        yield "context", context


def split_examples(examples: list[Example], heldout_fraction: float, val_fraction: float, seed: int) -> Split:
    """Assigns whole groups to held-out, val and train, in each category's proportion.

    The order of groups comes from a hash of the seed and their smallest id, so the split depends on which rows
    there are and not on the order of the file.
    """
    if not 0 <= heldout_fraction + val_fraction < 1 or heldout_fraction < 0 or val_fraction < 0:
        raise UserError(
            f"data.heldout_fraction {heldout_fraction} and data.val_fraction {val_fraction} must leave rows to train on"
        )
    by_category = defaultdict(list)
    for group in group_duplicates(examples):
        counts = Counter(examples[row].category for row in group)
        by_category[min(counts, key=lambda name: (-counts[name], name))].append(group)

    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    num_rows = 0  # over all categories so far, so that what one's rounding leaves out falls to the next
    for category in sorted(by_category):
        groups = sorted(by_category[category], key=lambda group: group_order(examples, group, seed))
        num_rows += sum(map(len, groups))
        room = {
            "heldout": round(heldout_fraction * num_rows) - len(parts["heldout"]),
            "val": round(val_fraction * num_rows) - len(parts["val"]),
        }
        for group in groups:
            part = next((part for part in room if len(group) <= room[part]), "train")
            if part in room:
                room[part] -= len(group)
            parts[part].extend(examples[row].id for row in group)
    if not parts["train"]:
        raise UserError(f"{len(examples)} rows are too few to split; lower data.heldout_fraction and data.val_fraction")
    return Split(**{part: sorted(ids) for part, ids in parts.items()})


def group_order(examples: list[Example], group: list[int], seed: int) -> bytes:
    smallest_id = min(examples[row].id for row in group)
    return hashlib.sha256(f"{seed}\0{smallest_id}".encode()).digest()


def select_examples(examples: list[Example], ids: list[str]) -> list[Example]:
    """The examples with these ids, in the order of `ids`. Raises UserError when one is missing."""
    by_id = {example.id: example for example in examples}
    missing = [row_id for row_id in ids if row_id not in by_id]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(ids)} rows of the run's split are not in the data any more, "
            f"the first is {missing[0]}; the source changed since the run started"
        )
    return [by_id[row_id] for row_id in ids]
