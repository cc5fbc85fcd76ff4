"""Train, validation and held-out parts that no group of near-duplicates straddles; how much leaks all the same."""

import hashlib
import json
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from revinst.data.example_table import Examples, build_examples
from revinst.data.examples import Example
from revinst.data.overlap import near_duplicates, normalise
from revinst.errors import UserError
from revinst.runs.files import read_json

MIN_RESPONSE_WORDS = 4  # shorter responses may be labels ("Yes", "Positive"), shared by unrelated rows ...
MIN_RESPONSE_CHARACTERS = 5
MAX_SHARED_SHORT = 10  # ... unless few rows give them: "George Washington" twice is one question asked twice
# A script without spaces has a word in each character.
WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
PARTS = ("heldout", "val", "train")


@dataclass(frozen=True, slots=True)
class Split:
    """Ids of each part. `heldout` is only reported on; `val` is what choices are made on.

    groups: ids of rows that belong together, for groups of two and more; scores of such rows are not independent.
    """

    train: list[str]
    val: list[str]
    heldout: list[str]
    groups: list[list[str]] = field(default_factory=list)

    @property
    def hash(self) -> str:
        content = json.dumps([sorted(self.train), sorted(self.val), sorted(self.heldout)])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        return {
            "hash": self.hash,
            "train": self.train,
            "val": self.val,
            "heldout": self.heldout,
            "groups": self.groups,
        }


class Groups:
    """Union-find over row numbers."""

    def __init__(self, count: int):
        self.parent = array("q", range(count))  # 8 bytes a row; a list of numbers takes 40

    def find(self, row: int) -> int:
        parent = self.parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(self, a: int, b: int) -> None:
        self.parent[self.find(a)] = self.find(b)

    def to_list(self) -> list[list[int]]:
        groups = defaultdict(list)
        for row in range(len(self.parent)):
            groups[self.find(row)].append(row)
        return list(groups.values())


def group_duplicates(examples: Sequence[Example]) -> list[list[int]]:
    """Groups of row numbers that belong together, transitively.

    Rows belong together that share a context, or whose instructions, or whose responses, are equal or near-duplicates
    (`overlap.near_duplicates`) once normalised. A response of less than four words counts only if few rows share it.
    """
    examples = examples if isinstance(examples, Examples) else build_examples(examples)
    groups = Groups(len(examples))
    for name in ("context", "instruction", "response"):
        rows = join_equal(examples, groups, name)
        if name == "context":
            continue
        texts = NormalisedTexts(examples.take(rows), name)
        for a, b in near_duplicates(texts, skip=partial(are_joined, groups, rows), name=f"{name}s"):
            groups.join(int(rows[a]), int(rows[b]))
    return groups.to_list()


def are_joined(groups: Groups, rows: np.ndarray, a: int, b: int) -> bool:
    return groups.find(int(rows[a])) == groups.find(int(rows[b]))


class NormalisedTexts(Sequence[str]):
    """One normalised field of some examples, read when it is asked for."""

    def __init__(self, examples: Examples, name: str):
        self.examples, self.name = examples, name

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: Any) -> Any:
        return normalise(self.examples.table.column(self.name)[int(self.examples.numbers[number])].as_py())

    def __iter__(self) -> Iterator[str]:
        for (block,) in self.examples.blocks(self.name):
            yield from map(normalise, block)


def join_equal(examples: Examples, groups: Groups, name: str) -> np.ndarray:
    """Joins rows whose normalised text is equal; returns the first row with each text that counts."""
    texts = NormalisedTexts(examples, name)
    keys = np.fromiter((int.from_bytes(text_key(text)) for text in texts), np.uint64, len(texts))
    _, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    shared = zip(NormalisedTexts(examples.take(first), name), counts.tolist(), strict=True)
    counting = np.fromiter((counts_as_shared(text, name, count) for text, count in shared), bool, len(first))
    for row in np.flatnonzero(counting[inverse] & (counts[inverse] > 1)).tolist():
        groups.join(row, int(first[inverse[row]]))
    return np.sort(first[counting])


def text_key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def counts_as_shared(text: str, name: str, num_rows: int) -> bool:
    """Whether rows that share this normalised text belong together."""
    if not text:
        return False
    if name != "response" or len(WORD.findall(text)) >= MIN_RESPONSE_WORDS:
        return True
    return len(text) >= MIN_RESPONSE_CHARACTERS and num_rows <= MAX_SHARED_SHORT


def split_examples(
    examples: Sequence[Example], heldout_fraction: float, val_fraction: float, seed: int, grouped: bool = True
) -> Split:
    """Assigns whole groups to held-out, val and train, in each category's proportion.

    The order of groups comes from a hash of the seed and their smallest id, so the split depends on which rows
    there are and not on the order of the file. grouped: False takes each row for itself, to see what grouping moves.
    """
    if not 0 <= heldout_fraction + val_fraction < 1 or heldout_fraction < 0 or val_fraction < 0:
        raise UserError(
            f"data.heldout_fraction {heldout_fraction} and data.val_fraction {val_fraction} must leave rows to train on"
        )
    examples = examples if isinstance(examples, Examples) else build_examples(examples)
    ids, categories = examples.texts("id"), examples.texts("category")
    groups = group_duplicates(examples) if grouped else [[row] for row in range(len(examples))]
    by_category = defaultdict(list)
    for group in groups:
        counts = Counter(categories[row] for row in group)
        by_category[min(counts, key=lambda name: (-counts[name], name))].append(group)

    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    num_rows = 0  # over all categories so far, so that what one's rounding leaves out falls to the next
    for category in sorted(by_category):
        in_order = sorted(by_category[category], key=lambda group: group_order([ids[row] for row in group], seed))
        num_rows += sum(map(len, in_order))
        room = {
            "heldout": round(heldout_fraction * num_rows) - len(parts["heldout"]),
            "val": round(val_fraction * num_rows) - len(parts["val"]),
        }
        for group in in_order:
            part = next((part for part in room if len(group) <= room[part]), "train")
            if part in room:
                room[part] -= len(group)
            parts[part].extend(ids[row] for row in group)
    if not parts["train"]:
        raise UserError(f"{len(examples)} rows are too few to split; lower data.heldout_fraction and data.val_fraction")
    together = sorted(sorted(ids[row] for row in group) for group in groups if len(group) > 1)
    return Split(**{part: sorted(members) for part, members in parts.items()}, groups=together)


def group_order(ids: list[str], seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{min(ids)}".encode()).digest()


def read_split(path: Path) -> Split:
    """The split.json of a run. Raises UserError unless it is as it was written."""
    content = read_json(path)
    try:
        split = Split(content["train"], content["val"], content["heldout"], content.get("groups", []))
        is_whole = split.hash == content["hash"] and all(isinstance(name, str) for name in chain(*split.groups))
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a split.json (train, val, heldout and hash are needed)") from None
    if not is_whole:
        raise UserError(f"{path}: its ids do not have the hash that it records; it was edited or cut off")
    return split


def read_split_of(examples: Examples, path: Path) -> Split:
    """A split that another run made. Raises UserError unless it names exactly the rows that there are."""
    split = read_split(path)
    named = [*split.train, *split.val, *split.heldout]
    missing, extra = int((examples.numbers_of(named) < 0).sum()), len(examples) - len(named)
    if missing or extra:
        raise UserError(
            f"{path}: {missing} of its {len(named)} rows are not in the data, which has {len(examples)} rows; "
            "a split is only valid for the data that it was made from"
        )
    return split


def select_examples(examples: Examples, ids: Sequence[str]) -> Examples:
    """The examples with these ids, in the order of `ids`. Raises UserError when one is missing."""
    rows = examples.numbers_of(ids)
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        raise UserError(
            f"{len(missing)} of {len(ids)} rows of the run's split are not in the data any more, "
            f"the first is {ids[missing[0]]}; the source changed since the run started"
        )
    return examples.take(rows)
