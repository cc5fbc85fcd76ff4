"""Options of `revinst corpus`: those of its input, and what all of them mean together."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from revinst.corpus.authors import read_me
from revinst.corpus.filters import parse_thresholds
from revinst.corpus.settings import Reading, Selection, Writing
from revinst.errors import UserError


def add_reading_options(parser: ArgumentParser) -> None:
    """Read back by `read_reading`."""
    add = parser.add_argument
    add("input", metavar="INPUT", type=Path, help="a mailbox, chat, table, note, archive, or a folder of these")
    add("--me", action="append", default=[], metavar="NAME", help="an address, name or id of yours; repeat it")
    add("--list_authors", action="store_true", help="only print who wrote what is in INPUT")
    add("--column", default="text", help="the field or column that holds the text in tables")
    add("--join_minutes", type=float, default=0, metavar="N", help="one text of your chat messages within N minutes")
    add("--redact", action="store_true", help="placeholders for addresses, phones, links, numbers, names")


def read_reading(options: Namespace) -> Reading:
    """From the options of the command. Raises UserError for what makes no sense."""
    me = read_me(options.me)
    reading = Reading(options.input, me, options.column, options.redact, options.limit, options.join_minutes)
    reading.check_output(options.output)
    return reading


def read_options(options: Namespace) -> tuple[Reading, Writing, Selection]:
    if options.output is None or options.run is None:
        raise UserError("the following arguments are required: OUT_DIR, --run")
    if options.rounds < 0:
        raise UserError(f"--rounds {options.rounds}: must be at least 0")
    if not options.curate and any(setting.startswith("min_rating=") for setting in options.filter):
        raise UserError("--filter min_rating: ratings come from --curate; give both")
    writing = Writing(0, options.candidates, options.pick, options.curate, options.max_unparsable)
    writing.check(options.temperature)
    limits = parse_thresholds(options.filter)
    selection = Selection(limits, options.heldout, options.val, options.split_by or "", options.seed)
    return read_reading(options), writing, selection
