"""`revinst corpus`: somebody's own texts to a filtered instruction data set."""

from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from revinst.commands.options import (
    add_devices_option,
    add_generation_options,
    add_push_options,
    check_generation_options,
    check_push_options,
    read_generation_settings,
    run_on_devices,
)
from revinst.config.words import ORDERS, PICKS
from revinst.corpus.filters import parse_thresholds
from revinst.corpus.settings import Reading, Selection, Writing, check_ours, read_addresses
from revinst.errors import UserError
from revinst.inference.folder import AdapterOptions, find_run
from revinst.launch.ranks import Ranks
from revinst.options import Parser, check_file
from revinst.runs.folder import Run
from revinst.system import quiet_libraries


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    check_generation_options(options)
    read_options(options)
    check_push_options(options)
    find_run(Path(options.run), options.unfinished, AdapterOptions())
    return run_on_devices("corpus", args, options, build_corpus)


def read_options(options: Namespace) -> tuple[Reading, Writing, Selection]:
    check_file(options.input)
    if not options.curate and any(setting.startswith("min_rating=") for setting in options.filter):
        raise UserError("--filter min_rating: ratings come from --curate; give both")
    reading = Reading(options.input, read_addresses(options.me), options.column, options.redact, options.limit)
    reading.check_output(options.output)
    writing = Writing(0, options.candidates, options.pick, options.curate, options.max_unparsable)
    writing.check(options.temperature)
    limits = parse_thresholds(options.filter)
    return reading, writing, Selection(limits, options.heldout, options.val, options.split_by or "", options.seed)


def build_corpus(options: Namespace, ranks: Ranks) -> int:
    from revinst.corpus.build import placeholder_file
    from revinst.corpus.corpus import Corpus
    from revinst.corpus.output import build_card_table
    from revinst.corpus.rounds import build_rounds, check_rounds
    from revinst.export.publish import push
    from revinst.inference.trained import open_on_all

    generation, (reading, writing, selection) = read_generation_settings(options), read_options(options)
    quiet_libraries()
    trained = open_on_all(ranks, options.run, options.unfinished)
    check_rounds(trained, options.rounds)
    ranks.on_first(lambda: check_ours(options.output))
    with Run(options.output).lock() if ranks.is_first else nullcontext():
        corpus = Corpus(options.output, trained, generation, reading, writing, selection, ranks=ranks)
        card = build_rounds(corpus, options.rounds)
    if not ranks.is_first:
        return 0
    Console().print(build_card_table(card))
    if options.redact:
        print(f"what the placeholders stand for, for your eyes only: {placeholder_file(corpus.folder)}")
    print(corpus.folder)
    if options.push_to_hub:
        push(corpus.folder, options.push_to_hub, "data set", public=options.public, dry_run=options.dry_run)
    return 0


def build_options() -> ArgumentParser:
    parser = Parser(prog="revinst corpus", description="Own texts to an instruction data set.")
    kinds = "mbox, maildir, eml, jsonl, csv, parquet, txt, md, tweets.js, a ZIP or a folder of these"
    parser.add_argument("input", metavar="INPUT", type=Path, help=kinds)
    parser.add_argument("output", metavar="OUT_DIR", type=Path, help="an unfinished one is completed")
    parser.add_argument("--run", required=True, help="the run (or PEFT adapter folder) that writes the instructions")
    parser.add_argument("--unfinished", action="store_true", help="accept a run that did not train to its end")
    parser.add_argument("--me", action="append", default=[], metavar="ADDRESS", help="of your mails; repeat it")
    parser.add_argument("--column", default="text", help="the field or column that holds the text in tables")
    parser.add_argument("--redact", action="store_true", help="placeholders for addresses, phones, links and names")
    parser.add_argument("--candidates", type=int, default=4, metavar="K", help="instructions written for each text")
    parser.add_argument("--pick", choices=PICKS, default="likelihood", help="how one of them is chosen")
    parser.add_argument("--curate", action="store_true", help="let the base rate each pair from 1 to 5")
    parser.add_argument("--max_unparsable", type=float, default=0.2, help="share of ratings that may be unreadable")
    parser.add_argument("--filter", action="append", default=[], metavar="NAME=VALUE", help="or NAME=off; repeat it")
    parser.add_argument("--heldout", type=float, default=0.1, help="share of texts that is held out")
    parser.add_argument("--val", type=float, default=0.05, help="share of texts for validation")
    parser.add_argument("--split_by", choices=ORDERS, help="default: time where every text has a date, else group")
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="train the run again on what was kept")
    add_push_options(parser)
    add_generation_options(parser)
    add_devices_option(parser)
    parser.set_defaults(temperature=0.8)
    return parser
