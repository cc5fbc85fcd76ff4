"""Scores of predictions against references: ROUGE F1 per row, and the summary that `scores.json` holds."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from revinst.evaluation.statistics import bootstrap_interval

METRICS = ("rouge1", "rouge2", "rougeL")
USE_STEMMER = True


def score_rows(predictions: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """ROUGE-1, -2 and -L F1 of each pair, in 0-1, by torchmetrics; equal to Google's `rouge_score`."""
    from torchmetrics.functional.text.rouge import rouge_score

    assert len(predictions) == len(references), f"{len(predictions)} predictions, {len(references)} references"
    scores = {name: np.zeros(len(predictions)) for name in METRICS}
    for row, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        result = rouge_score(prediction, reference, use_stemmer=USE_STEMMER, rouge_keys=METRICS)
        for name in METRICS:
            scores[name][row] = float(result[f"{name}_fmeasure"])
    return scores


def summarise_scores(
    scores: dict[str, np.ndarray],
    categories: Sequence[str],
    baselines: dict[str, dict[str, np.ndarray]],
    settings: dict[str, Any],
    seed: int = 0,
) -> dict[str, Any]:
    """The content of `scores.json`. `baselines` must hold every floor: a figure without them says nothing."""
    missing = {"base", "random_instruction", "lead_words", "what_is"} - set(baselines)
    assert not missing, f"no scores without the baselines {missing}"
    rows_of = defaultdict(list)
    for row, category in enumerate(categories):
        rows_of[category].append(row)
    return {
        "n": len(categories),
        "metrics": {
            name: {"mean": float(values.mean()), "ci95": bootstrap_interval(values, seed=seed)}
            for name, values in scores.items()
        },
        "baselines": {
            baseline: {name: float(values.mean()) for name, values in of_baseline.items()}
            for baseline, of_baseline in baselines.items()
        },
        "by_category": {
            category: {"n": len(rows)} | {name: float(values[rows].mean()) for name, values in scores.items()}
            for category, rows in sorted(rows_of.items())
        },
        "settings": settings | {"rouge": {"stemmer": USE_STEMMER, "package": "torchmetrics"}},
    }
