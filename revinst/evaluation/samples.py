"""Several samples of one example: how good they are on average, at best, and by picks that need no reference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from revinst.evaluation.head import HEAD_METRICS
from revinst.evaluation.scores import ExampleScores, score_predictions
from revinst.inference.samples import Written, best_number


@dataclass(frozen=True, slots=True)
class SampleScores:
    """Scores of each way to use K samples: pick -> scores.

    `greedy`: the text beside them; `mean` over the samples; `best_of_k`: the sample with the highest ROUGE-L to the
    reference (an upper bound, it needs the reference); `consensus`: the one most like the others; `likelihood`: the one
    with the highest log p a token. picked: pick -> numbers of the samples.
    """

    scores: dict[str, ExampleScores]
    picked: dict[str, np.ndarray]


def score_samples(
    written: Sequence[Written], votes: Sequence[Sequence[float]], references: Sequence[str]
) -> SampleScores:
    """written: with the greedy text; votes: of each of their samples."""
    rows = np.arange(len(references))
    by_sample = [score_predictions(texts, references) for texts in zip(*(each.texts for each in written), strict=True)]
    values = {metric: np.stack([scores[metric] for scores in by_sample]) for metric in HEAD_METRICS}  # [K, examples]
    log_p = [[sample.log_p_a_token for sample in each.samples] for each in written]
    worth = {"consensus": votes, "likelihood": log_p}
    picked = {"best_of_k": best_samples(values)} | {
        name: np.array([best_number(each.texts, of_row) for each, of_row in zip(written, found, strict=True)])
        for name, found in worth.items()
    }
    greedy = score_predictions([each.greedy.text for each in written if each.greedy], references)
    scores = {"greedy": {metric: greedy[metric] for metric in HEAD_METRICS}}
    scores["mean"] = {metric: of_samples.mean(0) for metric, of_samples in values.items()}
    scores |= {
        name: {metric: of_samples[picks, rows] for metric, of_samples in values.items()}
        for name, picks in picked.items()
    }
    return SampleScores(scores, picked)


def best_samples(values: ExampleScores) -> np.ndarray:
    """Numbers of the samples with the highest ROUGE-L: Google's where it reads the example."""
    rouge_l = np.where(np.isnan(values["rougeL"]), values["rougeL_unicode"], values["rougeL"])
    return np.nan_to_num(rouge_l).argmax(0)
