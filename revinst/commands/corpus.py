"""`revinst corpus`: somebody's own texts to a filtered instruction data set."""

from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from revinst.commands.decoding import (
    add_generation_options,
    add_pick_options,
    check_generation_options,
    read_decoding,
    read_pick_settings,
)
from revinst.commands.judging import add_judge_options, read_judge
from revinst.commands.options import add_devices_option, add_push_options, check_push_options, run_on_devices
from revinst.commands.reading import add_reading_options
from revinst.config.words import ORDERS
from revinst.corpus.settings import check_ours, read_options
from revinst.inference.folder import AdapterOptions, find_run
from revinst.launch.ranks import Ranks
from revinst.options import Parser, check_file
from revinst.runs.folder import Run
from revinst.system import quiet_libraries


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    check_file(options.input)
    if options.list_authors:
        from revinst.corpus.ingest import list_authors

        Console().print(list_authors(options.input, options.column).table())
        return 0
    check_generation_options(options)
    reading, _, _ = read_options(options, read_pick_settings(options, "consensus")[0], read_judge(options))
    check_push_options(options)
    if options.texts_only:
        from revinst.corpus.build import build_texts_alone

        print(build_texts_alone(options.output, reading))
        return 0
    find_run(Path(options.run), options.unfinished, AdapterOptions())
    return run_on_devices("corpus", args, options, build_corpus)


def build_corpus(options: Namespace, ranks: Ranks) -> int:
    from revinst.corpus.build import describe_beside
    from revinst.corpus.corpus import Corpus
    from revinst.corpus.output import build_card_table
    from revinst.corpus.rounds import build_rounds, check_rounds
    from revinst.export.publish import push
    from revinst.inference.trained import open_on_all

    quiet_libraries()
    trained = open_on_all(ranks, options.run, options.unfinished)
    generation, picks = read_decoding(options, "consensus", ranks, trained.new_tokens)
    reading, writing, selection = read_options(options, picks, read_judge(options))
    check_rounds(trained, options.rounds)
    ranks.on_first(lambda: check_ours(options.output))
    with Run(options.output).lock() if ranks.is_first else nullcontext():
        corpus = Corpus(options.output, trained, generation, reading, writing, selection, ranks=ranks)
        card = build_rounds(corpus, options.rounds)
    if not ranks.is_first:
        return 0
    Console().print(build_card_table(card))
    print(describe_beside(corpus.folder), corpus.folder, sep="\n")
    if options.push_to_hub:
        push(corpus.folder, options.push_to_hub, "data set", public=options.public, dry_run=options.dry_run)
    return 0


def build_options() -> ArgumentParser:
    parser = Parser(prog="revinst corpus", description="Own texts to an instruction data set.")
    add = parser.add_argument
    add_reading_options(parser)
    add("--run", help="the run (or PEFT adapter folder) that writes the instructions")
    add("--unfinished", action="store_true", help="accept a run that did not train to its end")
    add_pick_options(parser, "consensus")
    add("--per_text", type=int, default=1, metavar="N", help="instructions for 500 words; a shorter text gets fewer")
    add("--curate", action="store_true", help="let the base rate each pair from 1 to 5")
    add("--max_unparsable", type=float, default=0.2, help="share of ratings that may be unreadable")
    add("--filter", action="append", default=[], metavar="NAME=VALUE", help="a filter's threshold; repeat it")
    add("--heldout", type=float, default=0.1, help="share of texts that is held out")
    add("--val", type=float, default=0.05, help="share of texts for validation")
    add("--split_by", choices=ORDERS, help="default: time where every text has a date, else group")
    add("--canaries", type=int, default=0, metavar="N", help="plant N made strings that evaluate --secrets asks for")
    add("--rounds", type=int, default=0, metavar="N", help="train the run again on what was kept, N times at most")
    add_push_options(parser)
    add_generation_options(parser)
    add_judge_options(parser)
    add_devices_option(parser)
    return parser
