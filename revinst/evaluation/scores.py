"""Scores of predictions against references: every metric of each one, and the summary that `scores.json` holds.

All are in 0-1 and better when higher, but for the rates that describe a text: `length_ratio` (1 is right), `copy_rate`,
`eos_rate` and `degenerate_rate`. NaN is a value that does not exist, and becomes null in JSON: a metric that can't
read a row's reference has none for it, whatever the prediction is.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import starmap

import numpy as np

from revinst.data.language import find_language
from revinst.data.words import count_words, normalise, split_words
from revinst.evaluation.rouge import ROUGE_METRICS, ROUGE_SETTINGS, count_shared, f_measure, score_rouge
from revinst.evaluation.sacrebleu_scores import describe_sacrebleu, score_sacrebleu
from revinst.evaluation.unicode_rouge import UNICODE_METRICS, UNICODE_SETTINGS, is_readable, score_split

TEXT_METRICS = (
    *ROUGE_METRICS, *UNICODE_METRICS, "token_f1", "bleu", "chrf", "exact_match", "length_ratio", "copy_rate",
    "degenerate",
)  # fmt: skip
METRICS = (*TEXT_METRICS, "eos")  # `eos` is known of generated texts only
# A stretch of 1 to 16 words three times or more on end; shorter than LOOP_WORDS it may be meant ("very very very").
LOOP = re.compile(r"(?<!\S)((?:\S+ ){1,16}?)\1{2,}")
LOOP_OF_CHARACTERS = re.compile(r"(?<!\S)((?:\S+ ){1,60}?)\1{2,}")  # as much where each character is taken for a word
LOOP_WORDS = 6
ExampleScores = dict[str, np.ndarray]  # metric -> float64 `[examples]`


def score_predictions(
    predictions: Sequence[str],
    references: Sequence[str],
    responses: Sequence[str] | None = None,
    prompt_lines: Sequence[str] = (),
) -> ExampleScores:
    """Every metric of TEXT_METRICS for each prediction.

    responses: the texts that the predictions are about, for `copy_rate` (NaN without them).
    prompt_lines: the template's own lines; a prediction that holds one is `degenerate`.
    """
    assert len(predictions) == len(references), f"{len(predictions)} predictions, {len(references)} references"
    assert responses is None or len(responses) == len(references), f"{len(responses or ())} responses"
    pairs = list(zip(predictions, references, strict=True))
    words, reference_words = (list(map(split_words, texts)) for texts in (predictions, references))
    scores = dict(zip(ROUGE_METRICS, columns(starmap(score_rouge, pairs), len(ROUGE_METRICS)), strict=True))
    blank_out(scores, [not is_readable(reference) for reference in references])
    scores |= score_words(words, reference_words, list(map(find_language, references)))
    scores["bleu"], scores["chrf"] = columns(score_sacrebleu(predictions, references), 2)
    if responses is None:
        scores["copy_rate"] = np.full(len(words), np.nan)
    else:
        scores["copy_rate"] = to_array(map(copy_rate, words, responses))
    scores["degenerate"] = to_array(
        float(is_degenerate(p, text, prompt_lines)) for p, text in zip(words, predictions, strict=True)
    )
    return {metric: scores[metric] for metric in TEXT_METRICS}


def score_words(
    words: Sequence[list[str]], reference_words: Sequence[list[str]], languages: Sequence[str]
) -> ExampleScores:
    """What compares words of any script; NaN where the reference has none, such as an emoji alone.

    languages: of the references.
    """
    split = list(zip(words, reference_words, strict=True))
    scores = dict(zip(UNICODE_METRICS, columns(map(score_split, words, reference_words, languages), 3), strict=True))
    scores["token_f1"] = to_array(f_measure(count_shared(p, r), len(p), len(r)) for p, r in split)
    scores["exact_match"] = to_array(float(p == r) for p, r in split)
    scores["length_ratio"] = to_array(len(p) / max(len(r), 1) for p, r in split)
    blank_out(scores, [not r for r in reference_words])
    scores["rouge2_unicode"][[len(r) == 1 for r in reference_words]] = np.nan  # no pair of words to find
    return scores


def blank_out(scores: ExampleScores, is_blind: Sequence[bool]) -> None:
    """NaN for rows of which these metrics see nothing, or too little: that is no 0."""
    for values in scores.values():
        values[np.array(is_blind, dtype=bool)] = np.nan


def to_array(values: Iterable[float]) -> np.ndarray:
    return np.fromiter(values, dtype=np.float64)


def columns(lines: Iterable[tuple[float, ...]], count: int) -> np.ndarray:
    """`[(1, 2), (3, 4)]` -> `[[1, 3], [2, 4]]`; no lines give `count` empty columns."""
    return np.array(list(lines), dtype=np.float64).reshape(-1, count).T


def copy_rate(words: list[str], response: str) -> float:
    """The longest run of the prediction's words that stands in the response, as a share of the prediction."""
    text, longest = f" {normalise(response)} ", 0
    for start in range(len(words)):
        while start + longest < len(words) and f" {' '.join(words[start : start + longest + 1])} " in text:
            longest += 1
    return longest / len(words) if words else 0.0


def is_degenerate(words: list[str], prediction: str, prompt_lines: Sequence[str]) -> bool:
    """Empty, looping, or an echo of the prompt's own lines."""
    if not words or any(line in prediction for line in prompt_lines):
        return True
    text = " ".join(words) + " "
    loop = LOOP if 2 * count_words(text) > len(words) else LOOP_OF_CHARACTERS
    return any(count_words(found[0]) >= LOOP_WORDS for found in loop.finditer(text))


def metric_settings(prompt_lines: Sequence[str], references: Sequence[str]) -> dict[str, object]:
    """How each metric is computed: what another program needs to get the same numbers."""
    words = "Unicode's word boundaries, characters of scripts without spaces, case and compatibility forms folded"
    return {
        "rouge": ROUGE_SETTINGS,
        "rouge_unicode": UNICODE_SETTINGS,
        "token_f1": {"words": words},
        "exact_match": {"words": words},
        "length_ratio": {"words": words, "of": "prediction / reference"},
        "copy_rate": {"words": words, "of": "longest run shared with the response / prediction"},
        **describe_sacrebleu(references),
        "degenerate": {"loop": f"3 times on end, {LOOP_WORDS} words or more", "prompt_lines": list(prompt_lines)},
        "eos": {"of": "rows that ended by themselves"},
    }
