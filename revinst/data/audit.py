"""How much of the held-out part a training example gives away, beside a random split of the same examples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from revinst.data.example_table import Examples, build_examples
from revinst.data.examples import Example
from revinst.data.overlap import THRESHOLD, find_nearest_texts
from revinst.data.split import PARTS, Split, counts_as_shared, select_examples, split_examples
from revinst.data.words import normalise

# All held-out against all training examples of 15,000: 18 million, a few seconds. Far beyond, a sample stands for all.
MAX_PAIRS = 100_000_000


@dataclass(frozen=True, slots=True)
class Audit:
    """The held-out examples of `ids` against the training part.

    similarity: float64 `[n]`, the larger Jaccard (character 5-grams) over instruction and response to any training
        example.
    nearest: int64 `[n]`, that training example, -1 where nothing is alike.
    """

    ids: list[str]
    similarity: np.ndarray
    nearest: np.ndarray

    @property
    def max_similarity(self) -> float:
        return float(self.similarity.max(initial=0.0))

    @property
    def leaked(self) -> int:
        """Examples that a training example is a near-duplicate of."""
        return int((self.similarity >= THRESHOLD).sum())


def audit_split(examples: Examples, split: Split) -> Audit:
    """Compares held-out with training examples: all of them, or an even sample where there are very many."""
    return audit_examples(select_examples(examples, split.heldout), select_examples(examples, split.train))


def audit_random_split(examples: Examples, split: Split, seed: int) -> Audit:
    """The same for parts of the same sizes drawn one by one, as most tools draw them."""
    order = np.random.default_rng(seed).permutation(len(examples))
    heldout, rest = order[: len(split.heldout)], order[len(split.heldout) : len(split.heldout) + len(split.train)]
    return audit_examples(examples.take(np.sort(heldout)), examples.take(np.sort(rest)))


def audit_examples(heldout: Sequence[Example], train: Sequence[Example]) -> Audit:
    """Compares examples with training examples. Responses count as in grouping: not short ones that many share."""
    heldout = heldout if isinstance(heldout, Examples) else build_examples(heldout)
    train = train if isinstance(train, Examples) else build_examples(train)
    step = max(1, len(heldout) * len(train) // MAX_PAIRS)
    heldout = heldout[::step]
    best, nearest = np.zeros(len(heldout)), np.full(len(heldout), -1, dtype=np.int64)
    for field in ("instruction", "response"):
        index, similarity = find_nearest_texts(heldout.texts(field), train.texts(field))
        if field == "response":
            similarity[~informative(heldout.texts(field), train.texts(field))] = 0.0
        larger = similarity > best
        best[larger], nearest[larger] = similarity[larger], index[larger]
    return Audit(heldout.texts("id"), best, nearest)


def find_nearest(text: str, train: Sequence[Example]) -> tuple[Example, float] | None:
    """The training example whose response is most like the text, and how alike they are (character 5-grams)."""
    if not train:
        return None
    responses = train.texts("response") if isinstance(train, Examples) else [example.response for example in train]
    (number,), (similarity,) = find_nearest_texts([text], responses)
    return (train[int(number)], float(similarity)) if number >= 0 else None


def informative(texts: Sequence[str], train: Sequence[str]) -> np.ndarray:
    """bool `[len(texts)]`: whether an equal response elsewhere would say something."""
    normalised = [normalise(text) for text in texts]
    shared = dict.fromkeys(normalised, 0)
    for text in (*normalised, *map(normalise, train)):
        if text in shared:
            shared[text] += 1
    return np.array([counts_as_shared(text, "response", shared[text], len(shared)) for text in normalised], dtype=bool)


def count_moved(examples: Examples, split: Split, seed: int) -> int:
    """Examples that lie in another part than they would if each were split for itself with the same seed."""
    share = [len(part) / len(examples) for part in (split.heldout, split.val)]
    alone = split_examples(examples, share[0], share[1], seed, grouped=False)
    stayed = sum(len({*getattr(split, part)} & {*getattr(alone, part)}) for part in PARTS)
    return len(examples) - stayed
