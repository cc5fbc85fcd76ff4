"""Options that several commands share: which adapter, how to decode, on what, and where to upload."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from revinst.errors import UserError
from revinst.inference.engine.engine import GenerationSettings
from revinst.inference.trained import AdapterOptions
from revinst.launch.agent import check_devices, launch
from revinst.launch.ranks import Ranks, is_of_agent, open_ranks
from revinst.model.base import QUANTIZATIONS
from revinst.model.hardware import DTYPES, choose_dtype, pick_device
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
    """What is given for an adapter folder."""
    return AdapterOptions(options.base, options.quantization, options.template, options.seq_len)


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Read back by `read_reading` of `corpus/settings.py`."""
    add = parser.add_argument
    add("input", metavar="INPUT", type=Path, help="a mailbox, chat, table, note, archive, or a folder of these")
    add("--me", action="append", default=[], metavar="NAME", help="an address, name or id of yours; repeat it")
    add("--list_authors", action="store_true", help="only print who wrote what is in INPUT")
    add("--column", default="text", help="the field or column that holds the text in tables")
    add("--join_minutes", type=float, default=0, metavar="N", help="one text of your chat messages within N minutes")
    add("--redact", action="store_true", help="placeholders for addresses, phones, links, numbers, names")


def add_generation_options(parser: argparse.ArgumentParser) -> None:
    """`--limit` and how to decode; read back by `read_generation_settings`."""
    parser.add_argument("--limit", type=int, help="only the first N rows")
    parser.add_argument("--max_new_tokens", type=int, default=100)
    parser.add_argument("--temperature", type=float, default=0.0, help="0: greedy")
    parser.add_argument("--top_p", type=float, default=1.0)
    parser.add_argument("--top_k", type=int, default=0, help="sample from this many tokens (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch_size", type=int, help="rows decoded together, at most (default: the device's best)")
    parser.add_argument(
        "--engine", default="auto", help="auto, slots (ours, for Llama and Mistral) or hf (transformers' generate)"
    )
    parser.add_argument("--memory_gib", type=float, help="for weights and cache (default: what is free)")
    precision = "of the computation (default: as in training). fp32: texts that depend on nothing decoded beside them"
    parser.add_argument("--precision", choices=DTYPES, help=precision)


def add_devices_option(parser: argparse.ArgumentParser) -> None:
    shared = "share the rows among N GPUs (or processes)"
    parser.add_argument("--devices", type=int, default=1, metavar="N", help=shared)


def add_push_options(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument("--push_to_hub", metavar="ID", required=required, help="upload to this repository")
    parser.add_argument("--public", action="store_true", help="the repository may be read by everybody")
    parser.add_argument("--dry_run", action="store_true", help="only list the files and their sizes")


def check_push_options(options: argparse.Namespace) -> None:
    if (options.public or options.dry_run) and not options.push_to_hub:
        raise UserError("--public and --dry_run say how --push_to_hub ID sends; give both")


def run_on_devices(
    command: str, args: list[str], options: argparse.Namespace, work: Callable[[argparse.Namespace, Ranks], int]
) -> int:
    """`work` in this process, as one of those that torchrun started, or in the processes that --devices asks for."""
    if options.devices != 1 and not is_of_agent():
        check_devices(options.devices)
        return launch(command, args, options.devices)
    with open_ranks() as ranks:
        return work(options, ranks)


def read_generation_settings(options: argparse.Namespace) -> GenerationSettings:
    """Raises UserError for values that mean nothing. Decides the precision where it is not given, and says so."""
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: must be at least 1")
    given = {name: value for name, value in vars(options).items() if name in GenerationSettings.__dataclass_fields__}
    if given.get("precision") is None:
        given.pop("precision", None)
        print("precision: {}: {}".format(*choose_dtype(pick_device())), file=sys.stderr)
    return GenerationSettings(**given)
