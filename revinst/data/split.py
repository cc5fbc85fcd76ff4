"""Train, validation and held-out parts that no group of near-duplicates straddles; how much leaks all the same."""

import hashlib
import json
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
from revinst.data.overlap import near_duplicates
from revinst.data.placeholders import is_placeholder
from revinst.data.words import count_words, normalise
from revinst.errors import UserError
from revinst.runs.files import read_json

MIN_SHARED_WORDS = 4  # shorter texts may be labels ("Yes", "Positive"), shared by unrelated examples ...
MIN_RESPONSE_CHARACTERS = 5
MAX_SHARED_SHORT = 10  # ... unless few give them: "George Washington" twice is one question asked twice
# A context so short is what a tool writes into every row where it has nothing, or a label, if most rows have it.
MIN_CONTEXT_WORDS = 20
PARTS = ("heldout", "val", "train")


@dataclass(frozen=True, slots=True)
class Split:
    """Ids of each part. `heldout` is only reported on; `val` is what choices are made on.

    groups: ids of examples that belong together, for groups of two and more; scores of such ones are not independent.
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


class DuplicateGroups:
    """Union-find over the numbers of examples."""

    def __init__(self, count: int):
        self.parent = array("q", range(count))  # 8 bytes an example; a list of numbers takes 40

    def find(self, number: int) -> int:
        parent = self.parent
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    def join(self, a: int, b: int) -> None:
        self.parent[self.find(a)] = self.find(b)

    def to_list(self) -> list[list[int]]:
        groups = defaultdict(list)
        for number in range(len(self.parent)):
            groups[self.find(number)].append(number)
        return list(groups.values())


def group_duplicates(examples: Sequence[Example]) -> list[list[int]]:
    """Groups of numbers of examples that belong together, transitively.

    Those belong together that share a context, or whose instructions, or whose responses, are equal or near-duplicates
    (`overlap.near_duplicates`) once normalised. A response or context of less than four words counts only if few share
    it, a context of less than twenty only if most rows have another or none; what only says that there is nothing
    ("N/A", "no input") never counts as an instruction or a context.
    """
    examples = examples if isinstance(examples, Examples) else build_examples(examples)
    groups = DuplicateGroups(len(examples))
    for name in ("context", "instruction", "response"):
        distinct = join_equal(examples, groups, name)
        if name == "context":
            continue
        texts = NormalisedTexts(examples.take(distinct), name)
        for a, b in near_duplicates(texts, skip=partial(are_joined, groups, distinct), name=f"{name}s"):
            groups.join(int(distinct[a]), int(distinct[b]))
    return groups.to_list()


def are_joined(groups: DuplicateGroups, distinct: np.ndarray, a: int, b: int) -> bool:
    return groups.find(int(distinct[a])) == groups.find(int(distinct[b]))


class NormalisedTexts(Sequence[str]):
    """One normalised field of some examples, read when it is asked for."""

    def __init__(self, examples: Examples, name: str):
        self.examples, self.name = examples, name

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> str:  # type: ignore[override]  # nobody asks for a slice
        return normalise(self.examples.table.column(self.name)[int(self.examples.numbers[number])].as_py())

    def __iter__(self) -> Iterator[str]:
        for (block,) in self.examples.blocks(self.name):
            yield from map(normalise, block)


def join_equal(examples: Examples, groups: DuplicateGroups, name: str) -> np.ndarray:
    """Joins examples whose normalised text is equal; returns the first one with each text that counts."""
    texts = NormalisedTexts(examples, name)
    keys = np.fromiter((int.from_bytes(text_key(text)) for text in texts), np.uint64, len(texts))
    _, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    shared = zip(NormalisedTexts(examples.take(first), name), counts.tolist(), strict=True)
    total = len(examples)
    counting = np.fromiter((counts_as_shared(text, name, count, total) for text, count in shared), bool, len(first))
    for number in np.flatnonzero(counting[inverse] & (counts[inverse] > 1)).tolist():
        groups.join(number, int(first[inverse[number]]))
    return np.sort(first[counting])


def text_key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def counts_as_shared(text: str, name: str, num_sharing: int, total: int) -> bool:
    """Whether examples that share this normalised text, `num_sharing` of `total`, belong together."""
    if not text:
        return False
    words = count_words(text)
    if name == "response":
        few = len(text) >= MIN_RESPONSE_CHARACTERS and num_sharing <= MAX_SHARED_SHORT
        return words >= MIN_SHARED_WORDS or few
    if is_placeholder(text):
        return False
    if name == "instruction" or words >= MIN_CONTEXT_WORDS or num_sharing <= MAX_SHARED_SHORT:
        return True
    return words >= MIN_SHARED_WORDS and 2 * num_sharing <= total


def split_examples(
    examples: Sequence[Example], heldout_fraction: float, val_fraction: float, seed: int, grouped: bool = True
) -> Split:
    """Assigns whole groups to held-out, val and train, in each category's proportion.

    The order of groups comes from a hash of the seed and their smallest id, so the split depends on which examples
    there are and not on the order of the file. grouped: False takes each for itself, to see what grouping moves.
    """
    check_fractions(heldout_fraction, val_fraction)
    examples = examples if isinstance(examples, Examples) else build_examples(examples)
    ids, categories = examples.texts("id"), examples.texts("category")
    groups = group_duplicates(examples) if grouped else [[number] for number in range(len(examples))]
    by_category = defaultdict(list)
    for group in groups:
        counts = Counter(categories[number] for number in group)
        by_category[min(counts, key=lambda name: (-counts[name], name))].append(group)

    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    seen = 0  # over all categories so far, so that what one's rounding leaves out falls to the next
    for category in sorted(by_category):
        in_order = sorted(by_category[category], key=lambda group: group_order([ids[number] for number in group], seed))
        seen += sum(map(len, in_order))
        num_left = {
            "heldout": round(heldout_fraction * seen) - len(parts["heldout"]),
            "val": round(val_fraction * seen) - len(parts["val"]),
        }
        for group in in_order:
            part = next((part for part in num_left if len(group) <= num_left[part]), "train")
            if part in num_left:
                num_left[part] -= len(group)
            parts[part].extend(ids[number] for number in group)
    if not parts["train"]:
        raise UserError(f"{len(examples)} rows are too few to split; lower data.heldout_fraction and data.val_fraction")
    together = sorted(sorted(ids[number] for number in group) for group in groups if len(group) > 1)
    return Split(**{part: sorted(members) for part, members in parts.items()}, groups=together)


def check_fractions(heldout: float, val: float) -> None:
    if not 0 <= heldout + val < 1 or heldout < 0 or val < 0:
        raise UserError(f"data.heldout_fraction {heldout} and data.val_fraction {val} must leave rows to train on")


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
    """A split that another run made. Raises UserError unless it names exactly the examples that there are."""
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
    numbers = examples.numbers_of(ids)
    missing = np.flatnonzero(numbers < 0)
    if len(missing):
        raise UserError(
            f"{len(missing)} of {len(ids)} rows of the run's split are not in the data any more, "
            f"the first is {ids[missing[0]]}; the source changed since the run started"
        )
    return examples.take(numbers)
