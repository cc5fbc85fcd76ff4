"""`revinst score`: scores, baselines and a report of predictions that any system made; loads no model."""

from argparse import ArgumentParser
from pathlib import Path

from revinst.commands.judging import add_judge_options, read_judge
from revinst.evaluation.report import build_table, print_scores
from revinst.evaluation.score_file import OWN, read_columns, score_file
from revinst.options import Parser


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    folder = options.output or options.file.with_name(f"{options.file.name.partition('.')[0]}-scores")
    columns, judge = read_columns(options.columns), read_judge(options)
    scores = score_file(options.file, folder, columns, options.train, judge, options.command)
    print_scores(scores, build_table(scores, tuned=OWN), folder / "report.html", options.json)
    return 0


def build_options() -> ArgumentParser:
    parser = Parser(prog="revinst score", description="Score predictions of any system, beside baselines; no model.")
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="response, reference, prediction a row; id and category if there"
    )
    parser.add_argument("--train", metavar="FILE", help="rows for the baselines (default: the other half of FILE's)")
    parser.add_argument(
        "--columns",
        default="{}",
        metavar="{FIELD: NAME}",
        help="the file's own names: '{reference: gold, prediction: output}'",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="the folder to write to (default: FILE-scores)")
    parser.add_argument("--json", action="store_true", help="print scores.json instead of the table")
    add_judge_options(parser, "1 to 5")
    return parser
