"""What scores texts of any system on the same examples, and writes them down; no model is needed for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from revinst.data.examples import Example
from revinst.evaluation.examples import EvaluatedExamples
from revinst.evaluation.scores import ExampleScores, score_predictions
from revinst.evaluation.summary import ExampleLabels, label_lengths, label_similarities, none_if_nan
from revinst.inference.predictions import FILE, PredictionFile


def score_texts(texts: Sequence[str], examples: Sequence[Example], prompt_lines: Sequence[str] = ()) -> ExampleScores:
    """A system's texts against the instructions of the examples that they were written for."""
    references = [example.instruction for example in examples]
    responses = [example.response for example in examples]
    return score_predictions(texts, references, responses, prompt_lines)


def label_examples(evaluated: EvaluatedExamples, nearest: Sequence[dict[str, Any]]) -> ExampleLabels:
    """nearest: of `EvaluatedExamples.find_nearest`."""
    strata = {"response_length": label_lengths([example.response for example in evaluated.examples])}
    if evaluated.train is not None:
        strata["similarity"] = label_similarities([each["max_similarity"] for each in nearest])
    return ExampleLabels([example.category for example in evaluated.examples], evaluated.groups, strata)


def by_example(scores: ExampleScores) -> list[dict[str, float | None]]:
    """`{"a": [1, 2]}` -> `[{"a": 1}, {"a": 2}]`; NaN becomes None."""
    lines = zip(*(values.tolist() for values in scores.values()), strict=True)
    return [dict(zip(scores, map(none_if_nan, line), strict=True)) for line in lines]


def write_predictions(
    folder: Path,
    settings: Mapping[str, object],
    predictions: Sequence[Mapping[str, object]],
    extras: Sequence[Mapping[str, object]],
) -> list[dict[str, Any]]:
    """predictions.jsonl: each prediction with what belongs to it. settings: of the file that is there, if any."""
    scored = [{**each, **extra} for each, extra in zip(predictions, extras, strict=True)]
    PredictionFile(folder / FILE, dict(settings)).replace(scored)
    return scored
