"""`revinst merge`: a standalone model that plain transformers loads, how far it drifted, and GGUF files of it."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from rich.console import Console

from revinst.commands.options import (
    add_push_options,
    build_run_parser,
    check_push_options,
    check_run,
    read_stated,
)
from revinst.config.words import GGUF_FORMATS, MERGE_TARGETS
from revinst.errors import UserError
from revinst.options import check_file
from revinst.system import quiet_libraries


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    if options.out.exists():
        raise UserError(f"{options.out} exists; give a new folder")
    if options.drift_rows < 0:
        raise UserError(f"--drift_rows {options.drift_rows}: must be at least 0")
    check_push_options(options)
    check_run(options)
    check_file(options.input, "--input")
    return merge(options)


def merge(options: Namespace) -> int:
    from revinst.export.card import build_card
    from revinst.export.drift import choose_drift_examples
    from revinst.export.drift_report import build_drift_table
    from revinst.export.publish import check_redacted, push
    from revinst.export.standalone import choose_target, measure_drift, merge_into
    from revinst.inference.trained import open_trained

    quiet_libraries()
    trained = open_trained(options.run, options.unfinished, read_stated(options))
    if options.push_to_hub:
        check_redacted(trained.unredacted, options.run, options.keep_private)
    rows = choose_drift_examples(trained, options.input, options.drift_rows)
    onto = choose_target(trained, options.onto)
    card = build_card(trained, options.push_to_hub or options.out.name, onto)
    merge_into(options.out, trained, onto, options.gguf, card)
    print(f"merged model in {options.out}")
    if rows is not None and (report := measure_drift(options.out, trained, rows, card)):
        Console().print(build_drift_table(report))
    if options.push_to_hub:
        push(options.out, options.push_to_hub, public=options.public, dry_run=options.dry_run)
    return 0


def build_options() -> ArgumentParser:
    parser = build_run_parser("merge", "Write a standalone bf16 model with the adapter merged in.")
    parser.add_argument("out", metavar="OUT_DIR", type=Path, help="a folder that does not exist yet")
    parser.add_argument(
        "--onto",
        choices=MERGE_TARGETS,
        help="nf4: the 4-bit values the adapter was trained against (default after QLoRA); 16bit: the base's own",
    )
    parser.add_argument("--gguf", nargs="+", choices=GGUF_FORMATS, default=[], help="also these files in OUT_DIR/gguf")
    parser.add_argument("--drift_rows", type=int, default=100, help="held-out rows of the drift report; 0: none")
    parser.add_argument("--input", help="rows of the drift report, for an adapter folder")
    add_push_options(parser, data_set=False)
    return parser
