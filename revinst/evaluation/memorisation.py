"""How much of a generated text stands word for word in the training texts."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from revinst.data.overlap import FACTORS
from revinst.data.words import count_words, split_words
from revinst.inference.predictions import Prediction
from revinst.progress import Stage

WINDOW = 5  # words, English ones; shorter runs are everybody's
MAX_PLACES = 64  # of one window that are followed up
WARNING_WORDS = 12  # a verbatim run of this length gets a text into the warning list


def find_memorised(
    made: Sequence[Prediction], own: Sequence[str], train: Sequence[str]
) -> tuple[list[str], dict[str, Any]]:
    """(each prediction's longest verbatim run, the summary with its warning list).

    `own`: the same of the person's held-out texts: what somebody repeats without having memorised anything.
    """
    with Stage("passages from training texts", brief=True):
        index = VerbatimIndex(train)
        runs = [index.longest_run(each.prediction) for each in made]
        lengths, usual = ([round(count_words(run)) for run in some] for some in (runs, map(index.longest_run, own)))
    warnings = [
        {"id": each.id, "words": length, "run": run}
        for each, length, run in zip(made, lengths, runs, strict=True)
        if length >= WARNING_WORDS
    ]
    return runs, {
        "longest": max(lengths),
        "mean": float(np.mean(lengths)),
        "own_longest": max(usual),
        "own_mean": float(np.mean(usual)),
        "counted_from_words": WINDOW,
        "warned_from_words": WARNING_WORDS,
        "warnings": sorted(warnings, key=lambda each: -each["words"]),
    }


class VerbatimIndex:
    """All training texts as word numbers, end to end, and the sorted hashes of their windows: 20 bytes a word."""

    def __init__(self, texts: Iterable[str]):
        self.numbers: dict[str, int] = {}
        flat: list[int] = []
        for text in texts:
            flat.extend(self.numbers.setdefault(word, len(self.numbers) + 1) for word in split_words(text))
            flat.append(0)  # no word: a run does not go on in the next text
        self.words = np.array(flat + [0] * WINDOW, dtype=np.int64)
        hashes = hash_word_windows(self.words)
        self.order = np.argsort(hashes, kind="stable")
        self.hashes = hashes[self.order]

    def longest_run(self, text: str) -> str:
        """The longest run of the text's words that stands in a training text, "" below WINDOW words."""
        names = split_words(text)
        words = np.array([self.numbers.get(name, -1) for name in names] + [-1], dtype=np.int64)
        best, start = 0, 0
        for place, value in enumerate(hash_word_windows(words)):
            low = np.searchsorted(self.hashes, value)
            high = np.searchsorted(self.hashes, value, side="right")
            for found in self.order[low:high][:MAX_PLACES]:
                length = self.run_length(words, place, int(found))
                if length > best:
                    best, start = length, place
        run = " ".join(names[start : start + best])
        return run if count_words(run) >= WINDOW else ""

    def run_length(self, words: np.ndarray, place: int, found: int) -> int:
        length = 0
        while words[place + length] == self.words[found + length]:  # -1 and 0 are never equal
            length += 1
        return length


def hash_word_windows(words: np.ndarray) -> np.ndarray:
    """uint64 `[len(words) - WINDOW + 1]`"""
    count = max(len(words) - WINDOW + 1, 0)
    hashes = np.zeros(count, dtype=np.uint64)
    for shift in range(WINDOW):
        part = words[shift : shift + count].astype(np.uint64) * FACTORS[shift]
        hashes = (hashes ^ (hashes >> np.uint64(29))) * FACTORS[WINDOW] + part
    return hashes
