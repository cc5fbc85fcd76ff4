"""What scores, filters and searches find in each of twelve languages, on the rows that ship with revinst.

    python scripts/languages.py

prints one table: each metric's mean for the reference itself, for the reference without its last quarter (near) and for
the next row's reference (unrelated), and how much is kept by the filters or found of what is planted.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np

from revinst.corpus.dropped import filter_records
from revinst.corpus.filters import Thresholds
from revinst.corpus.texts import Record
from revinst.data.example_table import load_examples
from revinst.data.examples import Example
from revinst.data.overlap import near_duplicates
from revinst.data.words import count_words, normalise
from revinst.evaluation.memorisation import WARNING_WORDS, VerbatimIndex
from revinst.evaluation.scores import score_predictions

SIMILAR = (
    "rouge1", "rouge2", "rougeL", "rouge1_unicode", "rouge2_unicode", "rougeL_unicode", "token_f1", "bleu", "chrf",
    "exact_match",
)  # fmt: skip
NO_SCORES = Thresholds(min_gain=None, min_ifd=None, max_ifd=None, max_rifd=None)
Change = Callable[[Example], dict[str, str]]


def main() -> None:
    print(f"| language | {' | '.join(SIMILAR)} | kept | copies | loops | memorised | near-duplicates |")
    print(f"| --- |{' --- |' * (len(SIMILAR) + 5)}")
    for language, rows in by_language():
        scores = score_pairs(rows)
        cells = [" / ".join(format_mean(value) for value in scores[metric]) for metric in SIMILAR]
        found = [f"{share:.0%}" for share in find_planted(rows).values()]
        print(f"| {language} | {' | '.join([*cells, *found])} |")


def by_language() -> Iterator[tuple[str, list[Example]]]:
    examples, _ = load_examples("multilingual")
    yield from ((name, list(rows)) for name, rows in groupby(examples, key=lambda example: example.category))


def score_pairs(rows: Sequence[Example]) -> dict[str, list[float]]:
    """Metric -> its means for identical, near and unrelated texts; NaN where it can't read them."""
    references = [row.instruction for row in rows]
    near = [text[: len(text) * 3 // 4] for text in references]
    unrelated = [*references[1:], references[0]]
    systems = [score_predictions(texts, references) for texts in (references, near, unrelated)]
    return {metric: [mean(scores[metric]) for scores in systems] for metric in SIMILAR}


def mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def format_mean(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def find_planted(rows: Sequence[Example]) -> dict[str, float]:
    """Shares: of pairs that the filters keep, and of planted copies, loops, verbatim runs and near-duplicates found."""
    copied = count_dropped(rows, lambda row: {"instruction": row.response[: len(row.response) // 2]}, "copy")
    looping = count_dropped(rows, lambda row: {"instruction": " ".join([row.instruction] * 3)}, "looping")
    return {
        "kept": 1 - count_dropped(rows, lambda row: {}, ""),
        "copies": copied,
        "loops": looping,
        "memorised": find_memorised_runs(rows),
        "near-duplicates": find_near_duplicates(rows),
    }


def count_dropped(rows: Sequence[Example], change: Change, name: str) -> float:
    """The share dropped by the filter of this name, or by any, after a change of each pair."""
    records: list[Record] = [
        {"id": row.id, "text": row.response, "instruction": row.instruction} | change(row) for row in rows
    ]
    dropped = filter_records(records, NO_SCORES, (), rated=False)
    return sum(name in ("", dropped[number][0]) for number in dropped) / len(rows)


def find_memorised_runs(rows: Sequence[Example]) -> float:
    """Each response stands between two others' beginnings; the training texts are the responses themselves."""
    index = VerbatimIndex(row.response for row in rows)
    long = [row for row in rows if count_words(row.response) >= WARNING_WORDS]
    planted = [f"{rows[0].instruction} {row.response} {rows[1].instruction}" for row in long]
    return sum(round(count_words(index.longest_run(text))) >= WARNING_WORDS for text in planted) / len(long)


def find_near_duplicates(rows: Sequence[Example]) -> float:
    """Of each response and itself without its last word, or as much of a script without spaces."""
    texts = [normalise(row.response) for row in rows]
    shorter = [" ".join(text.split()[: -max(1, round(1 / weigh_a_word(text)))]) for text in texts]
    found = set(near_duplicates([*texts, *shorter]))
    return sum((number, number + len(texts)) in found for number in range(len(texts))) / len(texts)


def weigh_a_word(text: str) -> float:
    return count_words(text) / len(text.split())


if __name__ == "__main__":
    main()
