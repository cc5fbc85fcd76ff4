"""The content of `scores.json`: means with intervals, beside the baselines, by category and by other divisions."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from revinst.data.words import count_words
from revinst.evaluation.baselines import check_baselines, strongest_baseline
from revinst.evaluation.head import HEAD_METRICS
from revinst.evaluation.scores import ExampleScores
from revinst.evaluation.statistics import (
    bootstrap_intervals,
    detectable_difference,
    number_groups,
    sign_flip_p_values,
)

LENGTH_EDGES = (30, 100, 300)  # words
SIMILARITY_EDGES = (0.1, 0.3, 0.5)


@dataclass(frozen=True, slots=True)
class ExampleLabels:
    """What is known of each example beside its scores; every list has one entry an example.

    groups: examples with the same name are near-duplicates of each other, and are resampled together.
    strata: name of a division -> the label of each example in it.
    """

    categories: Sequence[str]
    groups: Sequence[str]
    strata: Mapping[str, Sequence[str]] = field(default_factory=dict)


def summarise_scores(
    scores: ExampleScores,
    labels: ExampleLabels,
    baselines: Mapping[str, ExampleScores],
    settings: dict[str, Any],
    seed: int = 0,
) -> dict[str, Any]:
    """Means over examples (micro) and over categories (macro) with 95 % intervals; values that don't exist are None.

    settings: with the `base` where there is one.

    `gains` are paired differences to each baseline, `detectable` the smallest difference to the strongest one that this
    many examples could show.
    """
    check_baselines(baselines, "base" in settings)
    groups = number_groups(labels.groups)
    by_category = summarise_parts(scores, labels.categories, groups, baselines, seed)
    gains = compare_to_baselines(baselines, scores, groups, seed)
    means = {name: mean_scores(baseline) for name, baseline in baselines.items()}
    strongest = {metric: strongest_baseline(means, metric) for metric in HEAD_METRICS}
    return {
        "n": len(labels.categories),
        "num_groups": int(groups.max(initial=-1)) + 1,
        "metrics": summarise_metrics(scores, groups, seed),
        "macro": {metric: mean_of([part[metric] for part in by_category.values()]) for metric in scores},
        "baselines": means,
        "gains": gains,
        "detectable": {metric: gains[name][metric]["detectable"] for metric, name in strongest.items()},
        "by_category": by_category,
        **{
            f"by_{name}": summarise_parts(scores, in_strata, groups, baselines, seed)
            for name, in_strata in labels.strata.items()
        },
        "settings": settings | {"bootstrap": {"samples": 2000, "seed": seed, "unit": "group of near-duplicates"}},
    }


def summarise_metrics(scores: ExampleScores, groups: np.ndarray, seed: int) -> dict[str, dict[str, Any]]:
    """Metric -> mean, ci95, and n, the rows that have it."""
    intervals = bootstrap_intervals(np.stack(list(scores.values()), axis=1), groups, seed=seed)
    means = mean_scores(scores)
    return {
        metric: {
            "mean": means[metric],
            "ci95": [none_if_nan(bound) for bound in interval],
            "n": int((~np.isnan(scores[metric])).sum()),
        }
        for metric, interval in zip(scores, intervals, strict=True)
    }


def summarise_parts(
    scores: ExampleScores, labels: Sequence[str], groups: np.ndarray, baselines: Mapping[str, ExampleScores], seed: int
) -> dict[str, dict[str, Any]]:
    """Label -> n, the mean of each metric, their intervals under `ci95`, and the baselines on the same examples."""
    members = defaultdict(list)
    for number, label in enumerate(labels):
        members[label].append(number)
    parts = {}
    for label in sorted(members, key=range_order):
        numbers = members[label]
        part = summarise_metrics({metric: values[numbers] for metric, values in scores.items()}, groups[numbers], seed)
        parts[label] = {
            "n": len(numbers),
            **{metric: value["mean"] for metric, value in part.items()},
            "ci95": {metric: value["ci95"] for metric, value in part.items()},
            "baselines": {
                name: mean_scores({metric: baseline[metric][numbers] for metric in HEAD_METRICS})
                for name, baseline in baselines.items()
            },
        }
    return parts


def range_order(label: str) -> tuple[float, str]:
    """Ranges by their lower end, other labels by the alphabet: `100 and up` comes after `30-100`."""
    number = re.match(r"[\d.]+(?=-| and up)", label)
    return (float(number[0]) if number else 0.0, label)


def compare_to_baselines(
    baselines: Mapping[str, ExampleScores], scores: ExampleScores, groups: np.ndarray, seed: int
) -> dict[str, dict[str, Any]]:
    """Baseline -> head metric -> mean paired difference to it, its interval and p, and what could be detected."""
    pairs = [(name, metric) for name in baselines for metric in HEAD_METRICS]
    differences = np.stack([scores[metric] - baselines[name][metric] for name, metric in pairs], axis=1)
    intervals = bootstrap_intervals(differences, groups, seed=seed)
    p_values = sign_flip_p_values(differences, groups, seed=seed)
    gains: dict[str, dict[str, Any]] = {name: {} for name in baselines}
    for (name, metric), values, interval, p in zip(pairs, differences.T, intervals, p_values, strict=True):
        gains[name][metric] = {
            "difference": mean_of(values[~np.isnan(values)].tolist()),
            "ci95": [none_if_nan(bound) for bound in interval],
            "p": float(p),
            "detectable": none_if_nan(detectable_difference(values, groups)),
        }
    return gains


def mean_scores(scores: ExampleScores) -> dict[str, float | None]:
    return {metric: mean_of(values[~np.isnan(values)].tolist()) for metric, values in scores.items()}


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of the values that exist; None without any."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def label_lengths(responses: Sequence[str]) -> list[str]:
    """Each response's number of words as one of a few ranges; the names sort by length."""
    return label_ranges([count_words(response) for response in responses], LENGTH_EDGES, " words")


def label_similarities(similarities: Sequence[float]) -> list[str]:
    return label_ranges(similarities, SIMILARITY_EDGES, "")


def label_ranges(values: Sequence[float], edges: Sequence[float], unit: str) -> list[str]:
    """`label_ranges([5, 40], (30, 100), " words")` -> `["0-30 words", "30-100 words"]`; the lower end belongs."""
    ends = [0, *edges]
    names = [f"{low}-{high}{unit}" for low, high in pairwise(ends)] + [f"{ends[-1]} and up{unit}"]
    return [names[number] for number in np.digitize(values, edges)]
