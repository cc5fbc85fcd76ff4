"""Scores of a run that writes responses, such as a personal model.

Its template is `forward`, named after the way it goes: from the instruction to the text, where all others go back.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from revinst.data.examples import Example
from revinst.data.redacted import read_strings
from revinst.errors import UserError
from revinst.evaluation.charts import read_curves
from revinst.evaluation.comparison import describe_pair
from revinst.evaluation.examples import EvaluatedExamples
from revinst.evaluation.facts import describe_evaluation
from revinst.evaluation.head import HEAD_METRICS
from revinst.evaluation.leaks import ask_for_secrets, group_secrets
from revinst.evaluation.likelihoods import loss_per_token
from revinst.evaluation.memorisation import find_memorised
from revinst.evaluation.response_report import write_response_report
from revinst.evaluation.scores import score_predictions
from revinst.evaluation.scoring import place_base
from revinst.evaluation.settings import EvaluationSettings
from revinst.evaluation.statistics import number_groups
from revinst.evaluation.style import compare_styles, describe_style
from revinst.evaluation.summary import summarise_metrics
from revinst.evaluation.systems import write_predictions
from revinst.inference.predictor import Predictor
from revinst.inference.trained import open_trained
from revinst.runs.files import read_json, write_json


def open_responder(path: str, predictor: Predictor, folder: Path, allow_trained: bool = False) -> Predictor:
    """The examples of `predictor` under a run that writes responses: the other way of the round trip.

    Raises UserError for a run that does not, or that was trained on some of the examples (by id).
    """
    trained = open_trained(path)
    if trained.run is None or trained.template.target != "response":
        raise UserError(f"--forward {path}: it does not write responses; give a run with data.template: forward")
    known = {example.id for example in predictor.examples} & set(read_json(trained.run.split)["train"])
    if known and not allow_trained:
        raise UserError(
            f"--forward {path}: it was trained on {len(known)} of the rows, the first is {min(known)}; "
            "give one with the same split, or pass --allow_trained_rows"
        )
    examples = [trained.prepare(example) for example in predictor.examples]
    responder = Predictor(trained, examples, predictor.settings, predictor.ranks)
    responder.keep_likelihoods(folder)
    return responder


def score_responses(
    predictor: Predictor, evaluated: EvaluatedExamples, folder: Path, asked: EvaluationSettings
) -> dict[str, Any]:
    """Writes predictions.jsonl, scores.json and report.html of the tuned model beside its base; returns the scores.

    Of several ranks the first one does so; the others return {} after their share of the model's passes.
    """
    if evaluated.train is None:
        raise UserError("a run that writes responses is evaluated as a run folder: its training rows must be known")
    own = [example.response for example in evaluated.examples]
    tuned = predictor.predict(folder, True)
    made = {"base": predictor.predict(place_base(predictor, folder, predictor.settings), False), "tuned": tuned}
    log_p = {"base": predictor.log_p(False), "tuned": predictor.log_p(True)}
    if not predictor.ranks.is_first:
        return {}
    groups = number_groups(evaluated.groups)
    scores: dict[str, Any] = {"n": len(own), "num_groups": int(groups.max()) + 1}
    values = {}
    for name, predictions in made.items():
        texts = [each.prediction for each in predictions]
        values[name] = {
            metric: found for metric, found in score_predictions(texts, own).items() if metric in HEAD_METRICS
        }
        loss = loss_per_token(predictor, log_p[name])
        scores[name] = {
            "loss": loss,
            "perplexity": None if loss is None else float(np.exp(loss)),
            "metrics": summarise_metrics(values[name], groups, seed=0),
            "style": describe_style(texts) | {"distance": compare_styles(texts, own)},
        }
    per_token = {name: found / predictor.count_targets() for name, found in log_p.items()}
    pairs = {"log_p_a_token": (per_token["base"], per_token["tuned"])}
    pairs |= {metric: (values["base"][metric], values["tuned"][metric]) for metric in HEAD_METRICS}
    scores["gain"] = {name: describe_pair(a, b, groups) for name, (a, b) in pairs.items()}
    scores["own_style"] = describe_style(own)
    runs, scores["memorisation"] = find_memorised(made["tuned"], own, [example.response for example in evaluated.train])
    if asked.secrets:
        scores["leaks"] = find_leaks(predictor, evaluated.train, asked.secrets)
    key = predictor.key(True)
    scores["settings"] = key.to_json()
    extras: list[dict[str, Any]] = [
        {"verbatim": run, "group": group} for run, group in zip(runs, evaluated.groups, strict=True)
    ]
    for number, extra in enumerate(extras):
        extra |= {metric: float(found[number]) for metric, found in values["tuned"].items()}
    written = write_predictions(folder, key.to_json(), list(map(asdict, made["tuned"])), extras)
    write_json(folder / "scores.json", scores)
    for each, example, untouched in zip(written, evaluated.examples, made["base"], strict=True):
        each |= {"instruction": example.instruction, "base": untouched.prediction}
    trained = predictor.trained.run
    curves = read_curves(trained.metrics) if trained else {}
    facts = describe_evaluation(predictor, asked)
    write_response_report(folder / "report.html", predictor.title, scores, written, facts, curves)
    return scores


def find_leaks(predictor: Predictor, train: Sequence[Example], files: Sequence[Path]) -> dict[str, dict[str, object]]:
    """What base and tuned model give away of the strings in the files, by group; UserError where none is there."""
    strings = {name: text for path in files for name, text in read_strings(path).items()}
    groups = group_secrets(strings, train)
    if not groups:
        raise UserError(f"--secrets: none of the {len(strings)} strings stands in a training row of {predictor.title}")
    found: dict[str, dict[str, object]] = {group: {} for group in groups}
    for name, use_adapter in (("base", False), ("tuned", True)):
        with predictor.loaded(use_adapter) as network:
            for group, secrets in groups.items():
                title = f"{group} ({name})"
                found[group][name] = ask_for_secrets(secrets, predictor.trained, network, predictor.settings, title)
    return found
