"""`revinst evaluate`: predictions for the held-out rows, their scores beside the baselines, and a report."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from revinst.errors import UserError
from revinst.evaluation.folders import EvaluationKey
from revinst.evaluation.forward import build_forward_table, evaluate_forward, open_forward, writes_responses
from revinst.evaluation.report import build_table
from revinst.evaluation.rows import choose_rows
from revinst.evaluation.scoring import score_evaluation
from revinst.inference.options import (
    add_devices_option,
    add_generation_options,
    build_parser,
    check_devices,
    read_generation_settings,
    without_devices,
)
from revinst.inference.predictor import Evaluation
from revinst.inference.trained import open_on_all
from revinst.launch.ranks import Ranks, launch, open_ranks
from revinst.model.hardware import choose_dtype, pick_device
from revinst.system import quiet_libraries


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    if options.devices != 1:
        return launch("evaluate", without_devices(args), check_devices(options.devices))
    with open_ranks() as ranks:
        return evaluate(options, ranks)


def evaluate(options: Namespace, ranks: Ranks) -> int:
    settings = read_generation_settings(options)
    if options.samples > 1 and not settings.temperature:
        raise UserError(f"--samples {options.samples}: greedy samples are all the same; give --temperature, e.g. 0.8")
    if options.samples < 1:
        raise UserError(f"--samples {options.samples}: must be at least 1")
    if options.semantic:
        from revinst.evaluation.embedding import check_encoder

        check_encoder(options.semantic)
    if options.input and options.part != "heldout":
        raise UserError("--part: for the run's own rows; --input names others")
    quiet_libraries()
    trained = open_on_all(ranks, options.run, options.unfinished, options)
    rows = choose_rows(trained, options.input, options.limit, options.allow_trained_rows, options.part)
    evaluation = Evaluation(trained, rows.examples, settings, ranks)
    folder = ranks.on_first(lambda: choose_folder(evaluation, options))
    evaluation.keep_likelihoods(folder)
    build: Callable[[dict[str, Any]], Table]
    if writes_responses(trained):
        check_forward_options(options)
        scores = evaluate_forward(evaluation, rows, folder)
        build = build_forward_table
    else:
        forward = None
        if options.forward:
            forward = open_forward(options.forward, evaluation, folder, options.allow_trained_rows)
        scores = score_evaluation(
            evaluation,
            rows,
            folder,
            options.adapter == "run",
            num_samples=options.samples,
            likelihood=options.likelihood or forward is not None,
            forward=forward,
            encoder=options.semantic,
        )
        build = partial(build_table, tuned="base" if options.adapter == "none" else "tuned")
    if not ranks.is_first:
        return 0
    if options.json:
        print(json.dumps(scores, indent=2, allow_nan=False))
    else:
        Console().print(build(scores))
        print(folder)
    return 0


def check_forward_options(options: Namespace) -> None:
    """Raises UserError for options that mean nothing for a run that writes responses."""
    wrong = {"--samples": options.samples > 1, "--adapter": options.adapter == "none"}
    wrong |= {f"--{name}": bool(getattr(options, name)) for name in ("likelihood", "forward", "semantic")}
    if any(wrong.values()):
        given = ", ".join(name for name, is_given in wrong.items() if is_given)
        raise UserError(f"{options.run} writes responses: {given} can't be used with it")


def build_options() -> ArgumentParser:
    parser = build_parser("evaluate", "Score a run on its held-out rows, beside baselines.")
    parser.add_argument(
        "--part", choices=["heldout", "val"], default="heldout", help="val: to choose settings by; report held-out rows"
    )
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="the adapter as it was after that step")
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
        "on a CPU a few seconds a row",
    )
    parser.add_argument(
        "--forward", metavar="RUN", help="--likelihood with the round trip through this run, which writes responses"
    )
    parser.add_argument(
        "--semantic", type=Path, metavar="FOLDER", help="also similarity in meaning, by this folder's sentence encoder"
    )
    add_generation_options(parser)
    add_devices_option(parser)
    return parser


def choose_folder(evaluation: Evaluation, options: Namespace) -> Path:
    """evaluation/ for the default settings on the held-out rows, else a subfolder named after what differs.

    Raises UserError where --name or --output names a folder that holds another evaluation.
    """
    described = evaluation.describe(options.adapter == "run", num_samples=options.samples)
    key = EvaluationKey(described, label_options(options, evaluation.rows_hash))
    if options.output is not None:
        return key.check(options.output)
    root = evaluation.trained.output
    if root is None:
        raise UserError("an adapter folder is no run: give --output")
    if options.name is None:
        return key.place(root)
    if Path(options.name).name != options.name or options.name in ("", ".", "..", "base"):
        raise UserError(f"--name {options.name!r}: give a plain folder name other than base")
    return key.check(root / options.name)


def label_options(options: Namespace, rows_hash: str) -> str:
    """The options that are not the defaults, for people: `val-step-000200-max-60`."""
    parts = ["base"] if options.adapter == "none" else []
    parts += [f"{Path(options.input).stem[:40]}-{rows_hash[:8]}"] if options.input else []
    parts += [options.part] if options.part != "heldout" else []
    parts += [f"step-{options.checkpoint:06d}"] if options.checkpoint is not None else []
    parts += [f"limit-{options.limit}"] if options.limit else []
    if options.temperature:
        parts += [f"t{options.temperature:g}-p{options.top_p:g}-s{options.seed}"]
        parts += [f"top-{options.top_k}"] if options.top_k else []
    parts += [f"k{options.samples}"] if options.samples > 1 else []
    parts += [f"max-{options.max_new_tokens}"] if options.max_new_tokens != 100 else []
    parts += [options.precision] if options.precision not in (None, choose_dtype(pick_device())[0]) else []
    parts += [options.engine] if options.engine == "hf" else []
    return "-".join(parts)
