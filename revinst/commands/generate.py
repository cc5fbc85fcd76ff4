"""`revinst generate`: an instruction for each text of a file or folder, or a text for each instruction."""

from argparse import ArgumentParser, Namespace
from functools import partial
from itertools import islice
from pathlib import Path

from revinst.commands.decoding import (
    add_generation_options,
    add_pick_options,
    check_generation_options,
    read_decoding,
    read_pick_settings,
)
from revinst.commands.options import add_devices_option, build_run_parser, check_run, read_stated, run_on_devices
from revinst.data.redacted import read_placeholders
from revinst.errors import UserError
from revinst.launch.ranks import Ranks
from revinst.options import check_file
from revinst.system import quiet_libraries


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    check_generation_options(options)
    check_run(options)
    check_file(options.input)
    check_output(options.output, Path(options.input).expanduser())
    read_pick_settings(options, "consensus")
    if options.placeholders:
        read_placeholders(options.placeholders)
    return run_on_devices("generate", args, options, generate)


def generate(options: Namespace, ranks: Ranks) -> int:
    from revinst.data.texts import read_texts
    from revinst.inference.predictor import Predictor
    from revinst.inference.trained import open_on_all

    quiet_libraries()
    trained = open_on_all(ranks, options.run, options.unfinished, read_stated(options))
    settings, picks = read_decoding(options, "" if trained.writes_texts else "consensus", ranks, trained.new_tokens)
    if options.context and not trained.with_context:
        raise UserError(f"--context {options.context}: this run reads no context (data.context)")
    columns, field = trained.columns, "instruction" if trained.writes_texts else "response"
    read = partial(read_texts, field=field, context=options.context)
    found = read(Path(options.input).expanduser(), options.column, columns, trained.strip_citations)
    if not (texts := list(islice(found, options.limit))):
        raise UserError(f"{options.input}: no {field}s in it")
    predictor = Predictor(trained, texts, settings, ranks)
    if num_cut := predictor.encoded.num_cut:
        print(f"{num_cut} of {len(texts)} {field}s were cut to fit in {trained.seq_len} tokens")
    placeholders = read_placeholders(options.placeholders) if options.placeholders else None
    predictor.write_file(options.output, picks, placeholders)
    print(f"{len(texts)} {trained.template.target}s in {options.output}")
    return 0


def build_options() -> ArgumentParser:
    description = "Write an instruction for each text, or, of a run that writes texts, a text for each instruction."
    parser = build_run_parser("generate", description)
    files = "jsonl, json, csv, parquet or txt file of texts (or instructions), or a folder of txt files"
    parser.add_argument("input", metavar="INPUT", help=files)
    parser.add_argument("--output", type=Path, required=True, help="a .jsonl file; an unfinished one is completed")
    parser.add_argument("--column", help="the field that holds it (default: the run's, or response; instruction)")
    parser.add_argument("--context", metavar="COLUMN", help="the field that holds the context (default: the run's)")
    restored = "OUT.placeholders.json of revinst corpus --redact: puts back what they stand for"
    parser.add_argument("--placeholders", type=Path, metavar="FILE", help=restored)
    add_pick_options(parser, "consensus")
    add_generation_options(parser)
    add_devices_option(parser)
    return parser


def check_output(output: Path, source: Path) -> None:
    if output.suffix != ".jsonl":
        raise UserError(f"--output {output}: the output is a .jsonl file")
    if output.exists() and source.exists() and output.samefile(source):
        raise UserError(f"--output {output}: this is the input; choose another file")
