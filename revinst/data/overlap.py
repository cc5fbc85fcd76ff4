"""How similar rows are to other rows: the leakage audit, and the floor that copies the nearest training row."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from revinst.data.split import normalise

SHINGLE = 5


def shingles_of(text: str) -> set[str]:
    """Character 5-grams of the normalised text: `"What's"` -> `{"what ", "hat s"}`."""
    text = normalise(text)
    return {text[start : start + SHINGLE] for start in range(len(text) - SHINGLE + 1)}


def nearest_rows(texts: Sequence[str], others: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(int64 index in `others` of the most similar one, float64 Jaccard of their shingles), each `[len(texts)]`.

    -1 and 0.0 where nothing shares a shingle; the first of several equally similar ones.
    """
    sizes = np.zeros(len(others))
    holders: dict[str, list[int]] = defaultdict(list)
    for number, other in enumerate(others):
        shingles = shingles_of(other)
        sizes[number] = len(shingles)
        for shingle in shingles:
            holders[shingle].append(number)
    nearest, similarity = np.full(len(texts), -1, dtype=np.int64), np.zeros(len(texts))
    for number, text in enumerate(texts):
        shingles = shingles_of(text)
        shared = Counter(other for shingle in shingles for other in holders.get(shingle, ()))
        for other, count in sorted(shared.items()):
            jaccard = count / (len(shingles) + sizes[other] - count)
            if jaccard > similarity[number]:
                nearest[number], similarity[number] = other, jaccard
    return nearest, similarity
