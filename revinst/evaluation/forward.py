"""`revinst evaluate` for a run that writes responses (`data.template: forward`), such as a personal model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from revinst.data.prompt import load_template
from revinst.errors import UserError
from revinst.evaluation.comparison import describe_pair
from revinst.evaluation.forward_report import METRICS, write_forward_report
from revinst.evaluation.memorisation import WINDOW, VerbatimIndex
from revinst.evaluation.rows import EvaluatedRows
from revinst.evaluation.scores import score_rows
from revinst.evaluation.scoring import loss_per_token, write_predictions
from revinst.evaluation.statistics import number_groups
from revinst.evaluation.style import compare_styles, describe_style
from revinst.evaluation.summary import summarise_rows
from revinst.inference.predictions import Prediction
from revinst.inference.predictor import Evaluation
from revinst.inference.trained import Trained, open_trained
from revinst.progress import Stage
from revinst.runs.files import read_json, write_json

WARNING_WORDS = 12  # a verbatim run of this length gets a row into the warning list


def writes_responses(trained: Trained) -> bool:
    return trained.template != "chat" and load_template(trained.template).target == "response"


def open_forward(path: str, evaluation: Evaluation, folder: Path, allow_trained: bool = False) -> Evaluation:
    """The rows of `evaluation` under a run that writes responses: the other way of the round trip.

    Raises UserError for a run that does not, or that was trained on some of the rows (by id).
    """
    trained = open_trained(path)
    if trained.run is None or not writes_responses(trained):
        raise UserError(f"--forward {path}: it does not write responses; give a run with data.template: forward")
    known = {example.id for example in evaluation.examples} & set(read_json(trained.run.split)["train"])
    if known and not allow_trained:
        raise UserError(
            f"--forward {path}: it was trained on {len(known)} of the rows, the first is {min(known)}; "
            "give one with the same split, or pass --allow_trained_rows"
        )
    examples = [trained.prepare(example) for example in evaluation.examples]
    forward = Evaluation(trained, examples, evaluation.settings, evaluation.ranks)
    forward.keep_likelihoods(folder)
    return forward


def evaluate_forward(evaluation: Evaluation, rows: EvaluatedRows, folder: Path) -> dict[str, Any]:
    """Writes predictions.jsonl, scores.json and report.html of the tuned model beside its base; returns the scores.

    Of several ranks the first one does so; the others return {} after their share of the model's passes.
    """
    if rows.train is None:
        raise UserError("a run that writes responses is evaluated as a run folder: its training rows must be known")
    own = [example.response for example in rows.examples]
    tuned = evaluation.predict(folder, True)
    made = {"base": evaluation.predict(evaluation.place_base(folder), False), "tuned": tuned}
    log_p = {"base": evaluation.log_p(False), "tuned": evaluation.log_p(True)}
    if not evaluation.ranks.is_first:
        return {}
    groups = number_groups(rows.groups)
    scores: dict[str, Any] = {"n": len(own), "num_groups": int(groups.max()) + 1}
    values = {}
    for name, predictions in made.items():
        texts = [row.prediction for row in predictions]
        values[name] = {metric: found for metric, found in score_rows(texts, own).items() if metric in METRICS}
        loss = loss_per_token(evaluation, log_p[name])
        scores[name] = {
            "loss": loss,
            "perplexity": None if loss is None else float(np.exp(loss)),
            "metrics": summarise_rows(values[name], groups, seed=0),
            "style": describe_style(texts) | {"distance": compare_styles(texts, own)},
        }
    per_token = {name: found / evaluation.count_targets() for name, found in log_p.items()}
    pairs = {"log_p_a_token": (per_token["base"], per_token["tuned"])}
    pairs |= {metric: (values["base"][metric], values["tuned"][metric]) for metric in METRICS}
    scores["gain"] = {name: describe_pair(a, b, groups) for name, (a, b) in pairs.items()}
    scores["own_style"] = describe_style(own)
    runs, scores["memorisation"] = find_memorised(made["tuned"], own, [example.response for example in rows.train])
    scores["settings"] = evaluation.describe(True)
    extras: list[dict[str, Any]] = [
        {"verbatim": run, "group": group} for run, group in zip(runs, rows.groups, strict=True)
    ]
    for number, extra in enumerate(extras):
        extra |= {metric: float(found[number]) for metric, found in values["tuned"].items()}
    written = write_predictions(folder, evaluation.describe(True), made["tuned"], extras)
    write_json(folder / "scores.json", scores)
    for row, example, untouched in zip(written, rows.examples, made["base"], strict=True):
        row |= {"instruction": example.instruction, "base": untouched.prediction}
    write_forward_report(folder / "report.html", evaluation.title, scores, written)
    return scores


def find_memorised(
    made: Sequence[Prediction], own: Sequence[str], train: Sequence[str]
) -> tuple[list[str], dict[str, Any]]:
    """(each prediction's longest verbatim run, the summary with its warning list).

    `own`: the same of the person's held-out texts: what somebody repeats without having memorised anything.
    """
    with Stage("passages from training texts", brief=True):
        index = VerbatimIndex(train)
        runs = [index.longest_run(row.prediction) for row in made]
        lengths, usual = ([len(run.split()) for run in some] for some in (runs, map(index.longest_run, own)))
    warnings = [
        {"id": row.id, "words": length, "run": run}
        for row, length, run in zip(made, lengths, runs, strict=True)
        if length >= WARNING_WORDS
    ]
    return runs, {
        "longest": max(lengths),
        "mean": float(np.mean(lengths)),
        "own_longest": max(usual),
        "own_mean": float(np.mean(usual)),
        "counted_from_words": WINDOW,
        "warned_from_words": WARNING_WORDS,
        "warnings": sorted(warnings, key=lambda row: -row["words"]),
    }


def build_forward_table(scores: dict[str, Any]) -> Table:
    table = Table(title=f"{scores['n']} held-out texts in {scores['num_groups']} groups")
    for name in ("", "base", "tuned", "own"):
        table.add_column(name, justify="right" if name else "left")
    base, tuned, own = scores["base"], scores["tuned"], scores["own_style"]
    table.add_row("perplexity", *(f"{part['perplexity']:.2f}" for part in (base, tuned)), "")
    for metric in METRICS:
        table.add_row(metric, *(f"{part['metrics'][metric]['mean']:.3f}" for part in (base, tuned)), "")
    for name in ("words", "words_a_sentence", "greeting", "sign_off"):
        table.add_row(name, *(f"{part[name]:.2f}" for part in (base["style"], tuned["style"], own)))
    for name in base["style"]["distance"]:
        found = (f"{part['style']['distance'][name]:.3f}" for part in (base, tuned))
        table.add_row(f"distance: {name}", *found, "0")
    memorised = scores["memorisation"]
    table.add_row("longest verbatim run", "", str(memorised["longest"]), str(memorised["own_longest"]))
    table.caption = f"{len(memorised['warnings'])} texts hold {WARNING_WORDS} words or more of a training text"
    return table
