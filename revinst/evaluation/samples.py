"""Several samples of one example: how good they are on average, at best, and by picks that need no reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np

from revinst.evaluation.head import HEAD_METRICS
from revinst.evaluation.rouge import score_rouge_l
from revinst.evaluation.scores import ExampleScores, score_predictions
from revinst.evaluation.unicode_rouge import split_by_script


@dataclass(frozen=True, slots=True)
class SampleScores:
    """Scores of each way to use K samples: pick -> scores.

    `mean` over the samples; `best_of_k`: the sample with the highest ROUGE-L to the reference (an upper bound, it needs
    the reference); `consensus`: the one most like the others; `likelihood`: the one the model finds likeliest.
    self_agreement: mean ROUGE-L between an example's samples, `[examples]`. picked: pick -> numbers of the samples.
    """

    scores: dict[str, ExampleScores]
    picked: dict[str, np.ndarray]
    self_agreement: np.ndarray


def score_samples(
    samples: Sequence[Sequence[str]], references: Sequence[str], log_likelihoods: np.ndarray
) -> SampleScores:
    """samples: `[K][examples]`, K at least 2; log_likelihoods: `[K, examples]`, NaN where unknown."""
    numbers = np.arange(len(references))
    by_sample = [score_predictions(texts, references) for texts in samples]
    values = {metric: np.stack([scores[metric] for scores in by_sample]) for metric in HEAD_METRICS}  # [K, examples]
    agreement = np.array([agree(texts) for texts in zip(*samples, strict=True)]).reshape(len(numbers), len(samples))
    picked = {
        "best_of_k": best_samples(values),
        "consensus": agreement.argmax(1),
        "likelihood": np.where(np.isnan(log_likelihoods), -np.inf, log_likelihoods).argmax(0),
    }
    scores = {"mean": {metric: of_samples.mean(0) for metric, of_samples in values.items()}}
    scores |= {
        name: {metric: of_samples[picks, numbers] for metric, of_samples in values.items()}
        for name, picks in picked.items()
    }
    return SampleScores(scores, picked, agreement.mean(1))


def best_samples(values: ExampleScores) -> np.ndarray:
    """Numbers of the samples with the highest ROUGE-L: Google's where it reads the example."""
    rouge_l = np.where(np.isnan(values["rougeL"]), values["rougeL_unicode"], values["rougeL"])
    return np.nan_to_num(rouge_l).argmax(0)


def most_agreed(texts: Sequence[str]) -> int:
    """The number of the text most like the others, the first of several; written k times it counts k times."""
    return int(np.argmax(agree(texts)))


def agree(texts: Sequence[str]) -> list[float]:
    """Mean ROUGE-L of each text to the others, whatever their order: `agree(["a b", "a b", "c"])` -> `[0.5, 0.5, 0.0]`.

    1.0 for a text alone. Texts that Google's ROUGE can't read are compared by the words of `data/words.py`.
    """
    if len(texts) == 1:
        return [1.0]
    words = list(map(split_by_script, texts))
    return [
        fsum(score_rouge_l(ours, theirs) for place, theirs in enumerate(words) if place != own) / (len(texts) - 1)
        for own, ours in enumerate(words)
    ]
