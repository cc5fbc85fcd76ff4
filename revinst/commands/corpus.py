"""`revinst corpus`: somebody's own texts to a filtered instruction data set."""

import argparse
import json
import time
from dataclasses import asdict
from email.utils import parseaddr
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from revinst.commands.evaluation import prompt_lines
from revinst.commands.publish import add_push_options, push
from revinst.commands.trained import (
    Trained,
    add_generation_options,
    open_trained,
    quiet_libraries,
    read_generation_settings,
)
from revinst.corpus.build import (
    Reading,
    Selection,
    Writing,
    build_dataset,
    build_shards,
    build_texts,
    check_ours,
    check_settings,
    choose_shard_rows,
    placeholder_file,
)
from revinst.corpus.candidates import PICKS, Writer
from revinst.corpus.filters import parse_thresholds
from revinst.corpus.parts import ORDERS
from revinst.data.prompt import Template, load_template
from revinst.data.tokenizer import Tokenizer, load_tokenizer
from revinst.errors import UserError
from revinst.generation.engine import GenerationSettings
from revinst.options import Parser
from revinst.run import Run


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
            from revinst.commands.corpus_rounds import build_rounds

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


class Corpus:
    """One output folder and how it is made; `build` does so with the run of one round."""

    def __init__(self, options: argparse.Namespace, settings: GenerationSettings, trained: Trained):
        self.folder: Path = options.output
        self.generation = settings
        me = {parseaddr(address)[1].lower() for address in options.me}
        self.reading = Reading(options.input, tuple(sorted(me)), options.column, options.redact, options.limit)
        from revinst.model.hardware import pick_device

        shard_rows = choose_shard_rows(self.folder, pick_device().type)
        self.writing = Writing(shard_rows, options.candidates, options.pick, options.curate, options.max_unparsable)
        self.limits = parse_thresholds(options.filter)
        self.trained, self.parts = trained, (options.heldout, options.val, options.split_by or "", options.seed)
        self.tokenizer: Tokenizer = load_tokenizer(trained.base)
        self.template: Template = load_template(trained.template, self.tokenizer.hf)
        if self.template.target != "instruction":
            raise UserError(f"--run {options.run}: trained to write the {self.template.target}, not instructions")
        self.settings = self.describe()
        check_settings(self.folder, self.settings)

    def describe(self) -> dict[str, Any]:
        writing = asdict(self.writing)
        writing.pop("max_unparsable")
        made_by = self.trained.describe(self.tokenizer, self.template)
        made_by.pop("base")  # a path of this machine, and the card has all of this
        settings = self.reading.describe() | writing | made_by | {"generation": self.generation.describe()}
        return json.loads(json.dumps(settings))

    def build(self, trained: Trained, work: Path, number: int) -> dict[str, Any]:
        """Writes all files with this run's instructions; shards lie in `work`. Returns the card."""
        texts = build_texts(self.folder, self.reading)

        @cache
        def load_writer() -> Writer:  # only if a shard is missing
            model = trained.load(self.generation)
            return Writer(
                model,
                self.tokenizer,
                self.template,
                trained.seq_len,
                trained.cut,
                self.generation,
                strip_citations=trained.strip_citations,
            )

        started = time.monotonic()
        count = build_shards(work, texts, load_writer, self.writing)
        written = time.monotonic()
        heldout, val, order, seed = self.parts
        lines = tuple(prompt_lines(self.template))
        selection = Selection(self.limits, lines, heldout=heldout, val=val, order=order, seed=seed)
        name = trained.run.path.name if trained.run else trained.adapter.name
        base = Path(trained.base).name if Path(trained.base).is_dir() else trained.base
        run = {"name": name, "adapter": trained.hash_adapter(), "base": base, "round": number}
        card = build_dataset(self.folder, work, selection, self.settings, run)
        write_s, files_s = written - started, time.monotonic() - written
        print(f"{count} texts got instructions in {write_s:.1f} s, {len(texts)} were filtered in {files_s:.1f} s")
        return card


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
