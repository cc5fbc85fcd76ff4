"""Scores of predictions against references: every metric of each one, and the summary that `scores.json` holds.

All are in 0-1 and better when higher, but for the rates that describe a text: `length_ratio` (1 is right), `copy_rate`,
`eos_rate` and `degenerate_rate`. NaN is a value that does not exist, and becomes null in JSON.
"""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from revinst.data.words import normalise, split_words
from revinst.evaluation.rouge import ROUGE_METRICS, ROUGE_SETTINGS, count_shared, f_measure, score_rouge

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

HEAD_METRICS = ("rouge1", "rouge2", "rougeL", "chrf")
TEXT_METRICS = (*ROUGE_METRICS, "token_f1", "bleu", "chrf", "exact_match", "length_ratio", "copy_rate", "degenerate")
METRICS = (*TEXT_METRICS, "eos")  # `eos` is known of generated texts only
# A stretch of 1 to 16 words three times or more on end; shorter than LOOP_WORDS it may be meant ("very very very").
LOOP = re.compile(r"(?<!\S)((?:\S+ ){1,16}?)\1{2,}")
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
    scores = dict(zip(ROUGE_METRICS, columns(map(score_rouge, predictions, references), 4), strict=True))
    words, reference_words = ([split_words(text) for text in texts] for texts in (predictions, references))
    pairs = list(zip(words, reference_words, strict=True))
    scores["token_f1"] = to_array(f_measure(count_shared(p, r), len(p), len(r)) for p, r in pairs)
    scores["bleu"], scores["chrf"] = columns(score_sacrebleu(predictions, references), 2)
    scores["exact_match"] = to_array(float(p == r) for p, r in pairs)
    scores["length_ratio"] = to_array(len(p) / len(r) if r else np.nan for p, r in pairs)
    if responses is None:
        scores["copy_rate"] = np.full(len(words), np.nan)
    else:
        scores["copy_rate"] = to_array(map(copy_rate, words, responses))
    scores["degenerate"] = to_array(
        float(is_degenerate(p, text, prompt_lines)) for p, text in zip(words, predictions, strict=True)
    )
    return scores


def to_array(values: Iterable[float]) -> np.ndarray:
    return np.fromiter(values, dtype=np.float64)


def columns(lines: Iterable[tuple[float, ...]], count: int) -> np.ndarray:
    """`[(1, 2), (3, 4)]` -> `[[1, 3], [2, 4]]`; no lines give `count` empty columns."""
    return np.array(list(lines), dtype=np.float64).reshape(-1, count).T


def load_sacrebleu() -> "tuple[BLEU, CHRF]":
    """BLEU (effective order, so that a short sentence is not 0) and chrF of one sentence."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return BLEU(effective_order=True), CHRF()


def score_sacrebleu(predictions: Sequence[str], references: Sequence[str]) -> Iterable[tuple[float, float]]:
    """(BLEU, chrF) of each prediction as a corpus of its own."""
    bleu, chrf = load_sacrebleu()
    for prediction, reference in zip(predictions, references, strict=True):
        pair = (prediction, [reference])
        yield bleu.sentence_score(*pair).score / 100, chrf.sentence_score(*pair).score / 100


def score_corpus(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU and chrF of all as one corpus, the way papers report them; they are no means over predictions."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return {
        name: metric.corpus_score(list(predictions), [list(references)]).score / 100
        for name, metric in (("bleu", BLEU()), ("chrf", CHRF()))
    }


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
    return any(len(loop[0].split()) >= LOOP_WORDS for loop in LOOP.finditer(" ".join(words) + " "))


def metric_settings(prompt_lines: Sequence[str]) -> dict[str, Any]:
    """How each metric is computed: what another program needs to get the same numbers."""
    bleu, chrf = load_sacrebleu()
    for metric in (bleu, chrf):
        metric.sentence_score("a", ["a"])  # its signature holds the number of references, known after a first score
    words = "runs of Unicode letters and digits, lower case"
    return {
        "rouge": ROUGE_SETTINGS,
        "token_f1": {"words": words},
        "exact_match": {"words": words},
        "length_ratio": {"words": words, "of": "prediction / reference"},
        "copy_rate": {"words": words, "of": "longest run shared with the response / prediction"},
        "bleu": {"level": "sentence", "sacrebleu": str(bleu.get_signature())},
        "chrf": {"level": "sentence", "sacrebleu": str(chrf.get_signature())},
        "corpus": {"level": "corpus", "sacrebleu": "as above, BLEU without effective order"},
        "degenerate": {"loop": f"3 times on end, {LOOP_WORDS} words or more", "prompt_lines": list(prompt_lines)},
        "eos": {"of": "rows that ended by themselves"},
    }
