"""`revinst compare`: evaluations of the same rows against each other."""

import json
from argparse import ArgumentParser
from pathlib import Path

from rich.console import Console

from revinst.commands.judging import add_judge_options, read_judge
from revinst.evaluation.choice import find_files, list_to_choose_from
from revinst.evaluation.comparison import build_comparison_tables, compare_systems, read_system
from revinst.evaluation.comparison_files import check_format, write_comparison
from revinst.evaluation.judged_pairs import check_judging, judge_systems
from revinst.evaluation.statistics import FEWEST
from revinst.options import Parser


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    if judge := read_judge(options):
        check_judging(judge, len(options.systems), options.rank)
    if options.output:
        check_format(options.output)
    if len(options.systems) < 2 and "," not in options.systems[0]:
        list_to_choose_from(Path(options.systems[0]))
    files = find_files(options.systems)
    systems = [read_system(text, files) for text in options.systems]
    result = compare_systems(systems, options.metric, rank=options.rank)
    by_name = {system.name: system for system in systems}
    ordered = [by_name[system["name"]] for system in result["systems"]]
    if judge:
        result["judged"] = judge_systems(judge, ordered)
    least = 0 if options.all_categories else FEWEST
    if options.output:
        write_comparison(options.output, result, [system.seeds[0] for system in ordered], least, options.command)
    if options.json:
        print(json.dumps(result, indent=2, allow_nan=False))
        return 0
    for table in build_comparison_tables(result, least):
        Console().print(table)
    if options.output:
        print(options.output)
    return 0


def build_options() -> ArgumentParser:
    parser = Parser(
        prog="revinst compare", description="Test each evaluation against the first, or the best, row by row."
    )
    parser.add_argument(
        "systems",
        metavar="A",
        nargs="+",
        help="a run folder (its evaluation with the same options as the others'), an evaluation folder or a "
        "predictions.jsonl file; A1,A2,A3: one system over several seeds",
    )
    parser.add_argument(
        "--metric",
        help="a score that the rows have; higher counts as a win "
        "(default: rougeL, or rougeL_unicode where Google's ROUGE can't read all rows)",
    )
    parser.add_argument("--rank", action="store_true", help="sort by the mean, and test against the best")
    parser.add_argument("--all_categories", action="store_true", help=f"also those of fewer than {FEWEST} rows")
    kinds = "also as a .md, .csv or .tex table, or as an .html page with the predictions side by side"
    parser.add_argument("--output", type=Path, metavar="FILE", help=kinds)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    add_judge_options(parser, "1: the first system is better, 2: the second, 0: neither")
    return parser
