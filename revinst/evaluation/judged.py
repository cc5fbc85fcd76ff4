"""What a judge says of an evaluation: ratings of its predictions, or its rows against those of another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired

import numpy as np

from revinst.evaluation.examples import EvaluatedExamples
from revinst.evaluation.head import Mean
from revinst.evaluation.judge import CHOICES, FIRST, RATINGS, SECOND, TIE, Judge, Use
from revinst.evaluation.judge_labels import People, agree_with_people
from revinst.evaluation.judge_settings import JudgeSettings
from revinst.evaluation.statistics import number_groups
from revinst.evaluation.summary import summarise_metrics


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows to judge. texts: that the instructions were written for. groups: names of near-duplicates."""

    ids: Sequence[str]
    texts: Sequence[str]
    groups: Sequence[str]

    @classmethod
    def of(cls, evaluated: EvaluatedExamples) -> "Judged":
        examples = evaluated.examples
        return cls([each.id for each in examples], [each.response for each in examples], evaluated.groups)


class Ratings(Use):
    """people: with `--labels` alone."""

    people: NotRequired[People]


class Orders(Ratings):
    """orders_agree: the share of rows for which both orders say the same, as mean, ci95 and n."""

    orders_agree: Mean


def rate_predictions(
    settings: JudgeSettings, folder: Path, rows: Judged, predictions: Sequence[str]
) -> tuple[np.ndarray, Ratings]:
    """1 to 5 for each prediction, float64 `[rows]`, NaN where there is none; and what it took."""
    judge = Judge(settings, folder, "rating")
    pairs = list(zip(rows.texts, predictions, strict=True))[: settings.limit]
    answers = judge.answer([judge.rate(text, prediction) for text, prediction in pairs])
    result: Ratings = {**judge.describe()}
    if settings.labels:
        known = {name: answer for name, answer in zip(rows.ids, answers, strict=False) if answer is not None}
        of_rows = dict(zip(rows.ids, rows.groups, strict=True))
        result["people"] = agree_with_people(settings.labels, known, of_rows, RATINGS, ordered=True)
    ratings = np.full(len(rows.ids), np.nan)
    ratings[: len(answers)] = [np.nan if answer is None else answer for answer in answers]
    return ratings, result


def compare_predictions(
    settings: JudgeSettings, folder: Path, rows: Judged, a: Sequence[str], b: Sequence[str]
) -> tuple[np.ndarray, Orders]:
    """For each row 1 where `b` is better in both orders, -1 where `a` is, else 0: float64 `[rows]`; NaN where either
    order has no answer. Equal predictions are a tie that nobody is asked about.
    """
    judge = Judge(settings, folder, "pair")
    numbers = [number for number in range(len(rows.ids))[: settings.limit] if a[number] != b[number]]
    questions = [judge.choose(rows.texts[n], a[n], b[n]) for n in numbers]
    swapped = [judge.choose(rows.texts[n], b[n], a[n]) for n in numbers]
    answers = judge.answer(questions + swapped)
    straight, back = answers[: len(numbers)], answers[len(numbers) :]
    values, agree = np.full((2, len(rows.ids)), np.nan)
    values[: settings.limit] = 0.0
    for number, one, other in zip(numbers, straight, back, strict=True):
        values[number], agree[number] = weigh(one, other)
    groups = number_groups(rows.groups)
    found = summarise_metrics({"agree": agree}, groups, seed=0)["agree"]
    result: Orders = {
        **judge.describe(),
        "orders_agree": {"mean": found["mean"], "ci95": found["ci95"], "n": found["n"]},
    }
    if settings.labels:
        known = {name: to_choice(value) for name, value in zip(rows.ids, values, strict=True) if not np.isnan(value)}
        of_rows = dict(zip(rows.ids, rows.groups, strict=True))
        result["people"] = agree_with_people(settings.labels, known, of_rows, CHOICES, ordered=False)
    return values, result


def weigh(straight: int | None, swapped: int | None) -> tuple[float, float]:
    """What both orders say of the second system (1, 0, -1), and whether they say the same (1, 0)."""
    if straight is None or swapped is None:
        return np.nan, np.nan
    same = (straight, swapped) in ((FIRST, SECOND), (SECOND, FIRST), (TIE, TIE))
    if not same or straight == TIE:
        return 0.0, float(same)
    return (1.0 if straight == SECOND else -1.0), 1.0


def to_choice(value: float) -> int:
    return {1.0: SECOND, -1.0: FIRST}.get(value, TIE)


def say_use(use: Use) -> str:
    """What it took, for a line: `412 answers, 1 unreadable, 130,200 tokens, cost 0.0312`."""
    parts = [f"{use['n']:,} answers"]
    parts += [f"{use['unreadable']:,} unreadable"] if use["unreadable"] else []
    parts += [f"{use['refused']:,} refused"] if use["refused"] else []
    tokens = use["prompt_tokens"] + use["completion_tokens"]
    parts += [f"{tokens:,} tokens"] if tokens else []
    parts += [f"cost {use['cost']:.4f}"] if use["cost"] is not None else []
    return ", ".join(parts)


def say_people(found: People) -> str:
    kappa = "-" if found["kappa"] is None else f"{found['kappa']:.3f}"
    return f"with people on {found['n']} rows: accuracy {found['accuracy']:.3f}, kappa {kappa}"


def describe_orders(use: Orders) -> Iterator[str]:
    """A line each: what a row's value is, how far the orders agree, what it took, and what people say."""
    yield "1: better in both orders, -1: worse in both, else 0"
    agree, (low, high) = use["orders_agree"]["mean"], use["orders_agree"]["ci95"]
    share = "-" if agree is None else f"{agree:.3f}"
    bounds = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    yield f"both orders say the same: {share}{bounds} of {use['orders_agree']['n']} rows that differ"
    yield f"{use['model']}: {say_use(use)}"
    if "people" in use:
        yield say_people(use["people"])
