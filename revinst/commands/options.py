"""Options that several commands share: which adapter, on what, and where to upload."""

import argparse
from collections.abc import Callable
from pathlib import Path

from revinst.config.words import QUANTIZATIONS
from revinst.errors import UserError
from revinst.inference.folder import AdapterOptions, find_run
from revinst.launch.ranks import Ranks, is_of_agent, open_ranks
from revinst.options import Parser


def build_run_parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = Parser(prog=f"revinst {command}", description=description)
    parser.add_argument("run", metavar="RUN", help="a run folder, or a PEFT adapter folder")
    parser.add_argument("--unfinished", action="store_true", help="accept a run that did not train to its end")
    adapter = parser.add_argument_group("for an adapter folder, which does not say this itself")
    adapter.add_argument("--base", help="its base model: hub id or folder (default: the one its config names)")
    adapter.add_argument("--quantization", choices=QUANTIZATIONS, help="of the base in training (default: nf4)")
    adapter.add_argument("--template", help="blog, alpaca, chat or a text file (default: blog)")
    adapter.add_argument("--seq_len", type=int, help="tokens of a row (default: 2048)")
    return parser


def read_stated(options: argparse.Namespace) -> AdapterOptions:
    return AdapterOptions(options.base, options.quantization, options.template, options.seq_len)


def check_run(options: argparse.Namespace, step: int | None = None) -> None:
    """Raises UserError where RUN can't be opened, before what opens it is imported."""
    find_run(Path(options.run), options.unfinished, read_stated(options), step)


def add_devices_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="share the rows among N GPUs or processes")


def add_push_options(parser: argparse.ArgumentParser, required: bool = False, data_set: bool = True) -> None:
    parser.add_argument("--push_to_hub", metavar="ID", required=required, help="upload to this repository")
    parser.add_argument("--public", action="store_true", help="the repository may be read by everybody")
    parser.add_argument("--keep_private", action="store_true", help="upload own texts without --redact, for you alone")
    if data_set:
        of_others = "upload a data set with what others wrote (corpus --context)"
        parser.add_argument("--publish_context", action="store_true", help=of_others)
    parser.add_argument("--dry_run", action="store_true", help="only list the files and their sizes")


def check_push_options(options: argparse.Namespace) -> None:
    how = ("public", "keep_private", "publish_context", "dry_run")
    given = [f"--{name}" for name in how if getattr(options, name, False)]
    if given and not options.push_to_hub:
        raise UserError(f"{given[0]} says how --push_to_hub ID sends; give both")
    if options.public and options.keep_private:
        raise UserError("--public and --keep_private exclude each other")


def run_on_devices(
    command: str, args: list[str], options: argparse.Namespace, work: Callable[[argparse.Namespace, Ranks], int]
) -> int:
    """`work` in this process, as one of those that torchrun started, or in the processes that --devices asks for."""
    if options.devices != 1 and not is_of_agent():
        from revinst.launch.agent import check_devices, launch

        check_devices(options.devices)
        return launch(command, args, options.devices)
    with open_ranks() as ranks:
        return work(options, ranks)
