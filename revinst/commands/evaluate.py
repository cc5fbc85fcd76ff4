"""`revinst evaluate`: predictions for the held-out rows, their scores beside the baselines, and a report."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from revinst.commands.decoding import (
    add_generation_options,
    add_pick_options,
    check_generation_options,
    read_decoding,
    read_pick_settings,
)
from revinst.commands.judging import add_judge_options, read_judge
from revinst.commands.options import add_devices_option, build_run_parser, check_run, read_stated, run_on_devices
from revinst.evaluation.report import print_scores
from revinst.evaluation.sending import check_sending, send_evaluation
from revinst.evaluation.settings import EvaluationSettings
from revinst.inference.picks import PickSettings
from revinst.launch.ranks import Ranks
from revinst.options import check_file
from revinst.system import quiet_libraries


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    check_generation_options(options)
    read_settings(options, read_pick_settings(options, "greedy")[0]).check()
    check_run(options, options.checkpoint)
    check_file(options.input, "--input")
    check_file(options.forward, "--forward")
    if options.log:
        check_sending(options.run)
    return run_on_devices("evaluate", args, options, evaluate)


def evaluate(options: Namespace, ranks: Ranks) -> int:
    from revinst.evaluation.evaluate import build_scores_table, evaluate_examples, find_folder
    from revinst.evaluation.examples import choose_examples
    from revinst.inference.predictor import Predictor
    from revinst.inference.trained import open_on_all

    quiet_libraries()
    trained = open_on_all(ranks, options.run, options.unfinished, read_stated(options), options.checkpoint)
    generation, picks = read_decoding(options, "greedy", ranks, trained.new_tokens)
    asked = read_settings(options, picks)
    evaluated = choose_examples(trained, asked.source, asked.limit, asked.allow_trained, asked.part)
    predictor = Predictor(trained, evaluated.examples, generation, ranks)
    folder = ranks.on_first(lambda: find_folder(predictor, asked, options.name, options.output))
    scores = evaluate_examples(predictor, evaluated, folder, asked)
    if ranks.is_first and options.log and trained.run and trained.config:
        send_evaluation(trained.run, trained.config, folder, scores)
    if ranks.is_first:
        print_scores(scores, build_scores_table(scores), folder / "report.html", options.json)
    return 0


def read_settings(options: Namespace, picks: PickSettings) -> EvaluationSettings:
    return EvaluationSettings(
        source=options.input,
        part=options.part,
        limit=options.limit,
        allow_trained=options.allow_trained_rows,
        step=options.checkpoint,
        use_adapter=options.adapter == "run",
        picks=picks,
        likelihood=options.likelihood,
        forward=options.forward,
        semantic=options.semantic,
        secrets=tuple(options.secrets),
        judge=read_judge(options),
        command=options.command,
    )


def build_options() -> ArgumentParser:
    parser = build_run_parser("evaluate", "Score a run on its held-out rows, beside baselines.")
    parts = ["heldout", "val"]
    parser.add_argument("--part", choices=parts, default="heldout", help="choose settings by val, report heldout")
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="the adapter as it was after that step")
    parser.add_argument("--input", help="other rows than the run's held-out ones (instruction and response)")
    parser.add_argument("--allow_trained_rows", action="store_true", help="score rows that the run was trained on")
    parser.add_argument("--output", type=Path, help="the folder to write to; default: RUN/evaluation[/NAME]")
    parser.add_argument("--adapter", choices=["run", "none"], default="run", help="none: score the untouched base")
    parser.add_argument("--name", help="the subfolder of RUN/evaluation")
    parser.add_argument("--log", action="store_true", help="send scores and report to the loggers of the run, too")
    parser.add_argument("--json", action="store_true", help="print scores.json instead of the table")
    trip = "also log p of the predictions and the round trip through the base; five more passes over the rows"
    parser.add_argument("--likelihood", action="store_true", help=f"{trip}, on a CPU a few seconds a row")
    parser.add_argument("--forward", metavar="RUN", help="--likelihood by this run that writes texts, not by the base")
    parser.add_argument("--semantic", metavar="ENCODER", help="also likeness in meaning, by this folder or hub id")
    parser.add_argument("--secrets", type=Path, nargs="+", default=[], metavar="FILE", help="strings it may give away")
    add_pick_options(parser, "greedy")
    add_generation_options(parser)
    add_judge_options(parser, "1 to 5")
    add_devices_option(parser)
    return parser
