"""`revinst corpus`: somebody's own texts to a filtered instruction data set."""

import argparse
from email.utils import parseaddr
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from revinst.commands.publish import add_push_options
from revinst.corpus.build import (
    check_ours,
    placeholder_file,
)
from revinst.corpus.candidates import PICKS
from revinst.corpus.corpus import Corpus
from revinst.corpus.parts import ORDERS
from revinst.errors import UserError
from revinst.export.publish import push
from revinst.inference.engine.engine import GenerationSettings
from revinst.inference.options import add_generation_options, read_generation_settings
from revinst.inference.trained import open_trained
from revinst.options import Parser
from revinst.runs.folder import Run
from revinst.system import quiet_libraries


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    settings = read_generation_settings(options)
    check_options(options, settings)
    quiet_libraries()
    trained = open_trained(options.run, options.unfinished)
    if options.rounds and trained.run is None:
        raise UserError(f"--rounds {options.rounds}: {options.run} is no run folder, so it can't be trained again")
    check_ours(options.output)
    with Run(options.output).lock():
        corpus = Corpus(options, settings, trained)
        card = corpus.build(trained, corpus.folder, 0)
        if options.rounds:
            from revinst.corpus.rounds import build_rounds

            card = build_rounds(corpus, card, options.rounds)
    Console().print(build_table(card))
    if options.redact:
        print(f"what the placeholders stand for, for your eyes only: {placeholder_file(corpus.folder)}")
    print(corpus.folder)
    if options.push_to_hub:
        push(corpus.folder, options.push_to_hub, "data set", public=options.public, dry_run=options.dry_run)
    return 0


def build_options() -> argparse.ArgumentParser:
    parser = Parser(prog="revinst corpus", description="Own texts to an instruction data set.")
    parser.add_argument(
        "input",
        metavar="INPUT",
        type=Path,
        help="mbox, maildir, eml, jsonl, csv, parquet, txt, md, tweets.js, a ZIP or a folder of these",
    )
    parser.add_argument("output", metavar="OUT_DIR", type=Path, help="an unfinished one is completed")
    parser.add_argument("--run", required=True, help="the run (or PEFT adapter folder) that writes the instructions")
    parser.add_argument("--unfinished", action="store_true", help="accept a run that did not train to its end")
    parser.add_argument(
        "--me", action="append", default=[], metavar="ADDRESS", help="you write mail from it; repeat it"
    )
    parser.add_argument("--column", default="text", help="the field or column that holds the text in tables")
    parser.add_argument(
        "--redact", action="store_true", help="placeholders for addresses, phones, links, numbers, names"
    )
    parser.add_argument("--candidates", type=int, default=4, metavar="K", help="instructions written for each text")
    parser.add_argument("--pick", choices=PICKS, default="likelihood", help="how one of them is chosen")
    parser.add_argument("--curate", action="store_true", help="let the base rate each pair from 1 to 5")
    parser.add_argument("--max_unparsable", type=float, default=0.2, help="share of ratings that may be unreadable")
    parser.add_argument(
        "--filter", action="append", default=[], metavar="NAME=VALUE", help="a threshold, or `off`; repeat it"
    )
    parser.add_argument("--heldout", type=float, default=0.1, help="share of texts that is held out")
    parser.add_argument("--val", type=float, default=0.05, help="share of texts for validation")
    parser.add_argument("--split_by", choices=ORDERS, help="default: time where every text has a date, else group")
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="train the run again on what was kept")
    add_push_options(parser)
    add_generation_options(parser)
    parser.set_defaults(temperature=0.8)
    return parser


def check_options(options: argparse.Namespace, settings: GenerationSettings) -> None:
    if options.candidates < 1 or options.rounds < 0:
        raise UserError("--candidates must be at least 1, --rounds at least 0")
    if options.candidates > 1 and not settings.temperature:
        raise UserError(
            f"--candidates {options.candidates}: greedy ones are all the same; give --temperature, e.g. 0.8"
        )
    if options.public and not options.push_to_hub:
        raise UserError("--public says who may read what --push_to_hub ID sends; give both")
    if not options.curate and any(setting.startswith("min_rating=") for setting in options.filter):
        raise UserError("--filter min_rating: ratings come from --curate; give both")
    if options.dry_run and not options.push_to_hub:
        raise UserError("--dry_run lists what --push_to_hub ID would send; give both")
    for address in options.me:
        if "@" not in parseaddr(address)[1]:
            raise UserError(f"--me {address}: not a mail address")
    if not 0 <= options.heldout + options.val < 1 or min(options.heldout, options.val) < 0:
        raise UserError(f"--heldout {options.heldout} and --val {options.val} must leave texts to train on")
    source, output = options.input.resolve(), options.output.resolve()
    if output == source or source in output.parents:
        raise UserError(f"{options.output}: the output must not lie in the input; choose another folder")


def build_table(card: dict[str, Any]) -> Table:
    table = Table(title="from texts to pairs")
    table.add_column("stage")
    table.add_column("rows", justify="right")
    for name, count in card["counts"].items():
        table.add_row(name, str(count))
    table.add_section()
    for row in card["filters"]:
        if row["dropped"]:
            table.add_row(f"dropped: {row['name']}", str(row["dropped"]))
    return table
