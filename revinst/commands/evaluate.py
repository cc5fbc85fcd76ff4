"""`revinst evaluate`: predictions for the held-out rows, their scores beside the baselines, and a report."""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from revinst.commands.evaluated_rows import EvaluatedRows, choose_rows
from revinst.commands.evaluation import SHUFFLE_SEED, Evaluation, prompt_lines
from revinst.commands.trained import (
    Trained,
    add_generation_options,
    build_parser,
    open_trained,
    quiet_libraries,
    read_generation_settings,
)
from revinst.errors import UserError
from revinst.evaluation.charts import read_curves
from revinst.evaluation.report import build_table, write_report
from revinst.evaluation.samples import SampleScores, score_samples
from revinst.evaluation.scores import metric_settings, score_corpus, score_rows
from revinst.evaluation.statistics import number_groups
from revinst.evaluation.summary import (
    RowKinds,
    label_lengths,
    label_similarities,
    none_if_nan,
    summarise_rows,
    summarise_scores,
)
from revinst.generation.predictions import Prediction, PredictionFile
from revinst.run import write_json


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    settings = read_generation_settings(options)
    if options.samples > 1 and not settings.temperature:
        raise UserError(f"--samples {options.samples}: greedy samples are all the same; give --temperature, e.g. 0.8")
    if options.samples < 1:
        raise UserError(f"--samples {options.samples}: must be at least 1")
    quiet_libraries()
    trained = open_trained(options.run, options.unfinished)
    rows = choose_rows(trained, options.input, options.limit, options.allow_trained_rows)
    folder = choose_folder(trained, options)
    scores = evaluate(Evaluation(trained, rows.examples, settings), rows, folder, options)
    if options.json:
        print(json.dumps(scores, indent=2, allow_nan=False))
    else:
        Console().print(build_table(scores, tuned="base" if options.adapter == "none" else "tuned"))
        print(folder)
    return 0


def build_options() -> ArgumentParser:
    parser = build_parser("evaluate", "Score a run on its held-out rows, beside baselines.")
    parser.add_argument("--input", help="other rows than the run's held-out ones (instruction and response)")
    parser.add_argument("--allow_trained_rows", action="store_true", help="score rows that the run was trained on")
    parser.add_argument("--output", type=Path, help="the folder to write to; default: RUN/evaluation[/NAME]")
    parser.add_argument("--adapter", choices=["run", "none"], default="run", help="none: score the untouched base")
    parser.add_argument("--name", help="the subfolder of RUN/evaluation")
    parser.add_argument("--json", action="store_true", help="print scores.json instead of the table")
    parser.add_argument("--samples", type=int, default=1, metavar="K", help="K samples a row (with --temperature)")
    parser.add_argument(
        "--likelihood",
        action="store_true",
        help="also log p of the predictions and the round trip through the base; five more passes over the rows, "
        "on a CPU about as long as the generation",
    )
    add_generation_options(parser)
    return parser


def choose_folder(trained: Trained, options: Namespace) -> Path:
    """evaluation/ for the default settings on the held-out rows, else a subfolder named after what differs."""
    if options.output is not None:
        return options.output
    if trained.output is None:
        raise UserError("an adapter folder is no run: give --output")
    parts = [options.name] if options.name else []
    if not parts:
        parts += ["base"] if options.adapter == "none" else []
        parts += [Path(options.input).stem] if options.input else []
        parts += [f"limit-{options.limit}"] if options.limit else []
        parts += [f"t{options.temperature:g}-p{options.top_p:g}-s{options.seed}"] if options.temperature else []
        parts += [f"k{options.samples}"] if options.samples > 1 else []
        parts += [f"max-{options.max_new_tokens}"] if options.max_new_tokens != 100 else []
    return trained.output / "-".join(parts) if parts else trained.output


def evaluate(evaluation: Evaluation, rows: EvaluatedRows, folder: Path, options: Namespace) -> dict[str, Any]:
    """Predicts, scores, and writes scores.json, report.html and the predictions with their scores."""
    use_adapter = options.adapter == "run"
    base = evaluation.predict(folder / "base" if use_adapter else folder, use_adapter=False)
    made = [evaluation.predict(folder, use_adapter=True)] if use_adapter else [base]
    made += [
        evaluation.predict(folder / "samples" / str(sample + 1), use_adapter, sample)
        for sample in range(1, options.samples)
    ]
    own = score_predictions(made[0], evaluation)
    floors = {"base": score_predictions(base, evaluation)} | score_floors(rows, evaluation)
    log_p = evaluation.log_p(use_adapter)
    own["logp_reference"] = log_p
    if options.likelihood:
        texts = [row.prediction for row in made[0]]
        own["logp_prediction"] = evaluation.log_p(use_adapter, texts)
        own |= evaluation.round_trip(texts)
    nearest = rows.find_nearest()
    strata = {"response_length": label_lengths([row.response for row in made[0]])}
    if rows.train is not None:
        strata["similarity"] = label_similarities([row["max_similarity"] for row in nearest])
    kinds = RowKinds([row.category for row in made[0]], rows.groups, strata)
    settings = evaluation.describe(use_adapter) | describe_metrics(evaluation, rows, options.likelihood)
    scores = summarise_scores(own, kinds, floors, settings)
    scores["corpus"] = score_corpus([row.prediction for row in made[0]], [row.reference for row in made[0]])
    scores["heldout_loss"] = loss_per_token(evaluation, log_p)

    extras: list[dict[str, Any]] = [
        {"group": group} | audit | {name: none_if_nan(values[number]) for name, values in own.items()}
        for number, (group, audit) in enumerate(zip(rows.groups, nearest, strict=True))
    ]
    if options.samples > 1:
        found = pick_samples(evaluation, made, use_adapter)
        scores["samples"] = summarise_samples(found, rows.groups, len(made))
        for number, extra in enumerate(extras):
            extra["samples"] = [sample[number].prediction for sample in made]
            extra |= {f"pick_{name}": int(numbers[number]) for name, numbers in found.picked.items()}
    write_evaluation(folder, evaluation, use_adapter, made[0], extras, scores)
    if use_adapter:  # so that `revinst compare` can set the base beside any run
        of_base = [
            {"group": group} | {name: none_if_nan(values[number]) for name, values in floors["base"].items()}
            for number, group in enumerate(rows.groups)
        ]
        write_predictions(folder / "base", evaluation, False, base, of_base)
    return scores


def write_evaluation(
    folder: Path,
    evaluation: Evaluation,
    use_adapter: bool,
    predictions: list[Prediction],
    extras: list[dict[str, Any]],
    scores: dict[str, Any],
) -> None:
    trained = evaluation.trained
    rows = write_predictions(folder, evaluation, use_adapter, predictions, extras)
    write_json(folder / "scores.json", scores)
    title = trained.run.path.name if trained.run else trained.adapter.name
    curves = read_curves(trained.run.metrics) if trained.run else {}
    write_report(folder / "report.html", title, scores, rows, curves, tuned="tuned" if use_adapter else "base")


def write_predictions(
    folder: Path,
    evaluation: Evaluation,
    use_adapter: bool,
    predictions: list[Prediction],
    extras: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    rows = [asdict(row) | extra for row, extra in zip(predictions, extras, strict=True)]
    PredictionFile(folder / "predictions.jsonl", evaluation.describe(use_adapter)).replace(rows)
    return rows


def score_predictions(rows: list[Prediction], evaluation: Evaluation) -> dict[str, np.ndarray]:
    scores = score_texts([row.prediction for row in rows], evaluation)
    return scores | {"eos": np.array([float(row.stopped == "eos") for row in rows])}


def score_floors(rows: EvaluatedRows, evaluation: Evaluation) -> dict[str, dict[str, np.ndarray]]:
    return {name: score_texts(texts, evaluation) for name, texts in rows.build_baselines().items()}


def score_texts(texts: list[str], evaluation: Evaluation) -> dict[str, np.ndarray]:
    references = [example.instruction for example in evaluation.examples]
    responses = [example.response for example in evaluation.examples]
    return score_rows(texts, references, responses, prompt_lines(evaluation.template))


def describe_metrics(evaluation: Evaluation, rows: EvaluatedRows, likelihood: bool) -> dict[str, Any]:
    described = metric_settings(prompt_lines(evaluation.template))
    described["floors"] = {"from": "training rows" if rows.train is not None else "the other half of the rows"}
    described["logp"] = {"unit": "nats", "of": "the instruction and EOS, given the response"}
    if likelihood:
        described["gain"] = {
            "unit": "nats",
            "of": "log p(response | instruction) - log p(response | empty instruction)",
            "model": evaluation.trained.base,
            "template": evaluation.forward.hash,
            "shuffle_seed": SHUFFLE_SEED,
        }
    return described


def loss_per_token(evaluation: Evaluation, log_p: np.ndarray) -> float | None:
    """-log p per target token over the rows whose reference fits."""
    fits = ~np.isnan(log_p)
    num_targets = evaluation.count_targets()[fits].sum()
    return float(-log_p[fits].sum() / num_targets) if num_targets else None


def pick_samples(evaluation: Evaluation, made: list[list[Prediction]], use_adapter: bool) -> SampleScores:
    texts = [[row.prediction for row in sample] for sample in made]
    log_p = np.stack([evaluation.log_p(use_adapter, sample) for sample in texts])
    return score_samples(texts, [row.reference for row in made[0]], log_p)


def summarise_samples(found: SampleScores, groups: list[str], count: int) -> dict[str, Any]:
    numbers = number_groups(groups)
    picks = {name: summarise_rows(scores, numbers, seed=0) for name, scores in found.scores.items()}
    agreement = summarise_rows({"self_agreement": found.self_agreement}, numbers, seed=0)
    return {"k": count} | picks | agreement
