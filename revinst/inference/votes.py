"""Which of several texts for the same thing the others agree with: minimum Bayes risk decoding (Kumar and Byrne 2004,
https://aclanthology.org/N04-1022; with samples: Eikema and Aziz 2022, https://arxiv.org/abs/2108.04718).

Equal texts are compared once and counted as often as they were written.

The longest common subsequences of a text with all others are found in one pass over its words. The others lie one after
the other as bits of one integer, with a free bit between two, which takes the carry of the addition:

    others       how do comets form | name a comet     word -> places: {"how": 1, "do": 2, "comets": 4, "form": 8, ...}
    text         how comets melt                       a bit that turned 0: a subsequence is one longer from there on

The step is Hyyrö's (2004, "Bit-parallel LCS-length computation revisited"), as in `evaluation/rouge.py`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import fsum

import numpy as np

from revinst.data.words import split_words

Likeness = list[list[float]]  # [text, other], each in 0-1

CHRF_ORDER, CHRF_BETA = 6, 2  # sacrebleu's own


def agree(texts: Sequence[str], utility: str = "rougeL") -> list[float]:
    """Mean likeness of each text to the others, whatever their order: `["a b", "a b", "c"]` -> `[0.5, 0.5, 0.0]`.

    1.0 for a text alone. utility: of `LIKENESS`.
    """
    if len(texts) == 1:
        return [1.0]
    counts = Counter(texts)
    likeness = LIKENESS[utility](list(counts))
    found = {}
    for place, (text, row) in enumerate(zip(counts, likeness, strict=True)):
        pairs = enumerate(zip(row, counts.values(), strict=True))
        others = (value * (count - (number == place)) for number, (value, count) in pairs)
        found[text] = fsum(others) / (len(texts) - 1)
    return [found[text] for text in texts]


def compare_rouge_l(texts: Sequence[str]) -> Likeness:
    """F1 of ROUGE-L over the words of `data/words.py`, which reads any script; 0 where a text has no word."""
    words = list(map(split_words, texts))
    lengths = list(map(len, words))
    return [
        [2 * common / (length + other) if common else 0.0 for common, other in zip(row, lengths, strict=True)]
        for length, row in zip(lengths, lcs_lengths(words), strict=True)
    ]


def lcs_lengths(sequences: Sequence[Sequence[str]]) -> list[list[int]]:
    """Length of the longest common subsequence of each with each.

    >>> lcs_lengths([["a", "b", "c"], ["a", "c"], ["d"]])
    [[3, 2, 0], [2, 2, 0], [0, 0, 1]]
    """
    places: dict[str, int] = {}
    segments, everywhere, start = [], 0, 0
    for sequence in sequences:
        segments.append((start, (1 << len(sequence)) - 1))
        everywhere |= segments[-1][1] << start
        for place, word in enumerate(sequence, start):
            places[word] = places.get(word, 0) | 1 << place
        start += len(sequence) + 1
    lengths = []
    for sequence in sequences:
        row = everywhere
        for word in sequence:
            found = row & places[word]
            row = (row + found | row - found) & everywhere
        common = everywhere ^ row
        lengths.append([(common >> start & mask).bit_count() for start, mask in segments])
    return lengths


def compare_chrf(texts: Sequence[str]) -> Likeness:
    """chrF as sacrebleu computes it of one sentence, the other being the reference."""
    letters = ["".join(text.split()) for text in texts]
    precision, recall, num_orders = (np.zeros((len(texts), len(texts))) for _ in range(3))
    for order in range(1, CHRF_ORDER + 1):
        shared = count_shared([[text[i : i + order] for i in range(len(text) - order + 1)] for text in letters])
        sizes = np.diag(shared)
        precision += shared / np.maximum(sizes[:, None], 1)
        recall += shared / np.maximum(sizes, 1)
        num_orders += np.outer(sizes, sizes) > 0
    precision, recall = (each / np.maximum(num_orders, 1) for each in (precision, recall))
    weight = CHRF_BETA**2
    scores = (1 + weight) * precision * recall / np.maximum(weight * precision + recall, 1e-16)
    return scores.tolist()


def count_shared(lists: Sequence[Sequence[str]]) -> np.ndarray:
    """How many items each has in common with each, one counted as often as both have it; float64 `[lists, lists]`.

    >>> count_shared([["a", "a", "b"], ["a", "a", "c", "a"]]).tolist()
    [[3.0, 2.0], [2.0, 4.0]]
    """
    columns: dict[tuple[str, int], int] = {}  # of each item and its number among its equals
    rows = []
    for items in lists:
        seen: Counter[str] = Counter()
        row = []
        for item in items:
            seen[item] += 1
            row.append(columns.setdefault((item, seen[item]), len(columns)))
        rows.append(row)
    has = np.zeros((len(lists), len(columns)), dtype=np.float32)
    for number, row in enumerate(rows):
        has[number, row] = 1
    return (has @ has.T).astype(np.float64)


def compare_both(texts: Sequence[str]) -> Likeness:
    """The mean of both."""
    pairs = zip(compare_rouge_l(texts), compare_chrf(texts), strict=True)
    return [[(a + b) / 2 for a, b in zip(*rows, strict=True)] for rows in pairs]


LIKENESS: dict[str, Callable[[Sequence[str]], Likeness]] = {
    "rougeL": compare_rouge_l,
    "chrf": compare_chrf,
    "mean": compare_both,
}
