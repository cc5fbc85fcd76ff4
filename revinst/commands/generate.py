"""`revinst generate`: an instruction for each text of a file or folder."""

from argparse import ArgumentParser, Namespace
from itertools import islice
from pathlib import Path

from revinst.commands.options import (
    add_devices_option,
    add_generation_options,
    build_run_parser,
    check_generation_options,
    check_run,
    read_generation_settings,
    read_stated,
    run_on_devices,
)
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
    return run_on_devices("generate", args, options, generate)


def generate(options: Namespace, ranks: Ranks) -> int:
    from revinst.data.texts import read_texts
    from revinst.inference.predictor import Predictor
    from revinst.inference.trained import open_on_all

    settings = read_generation_settings(options)
    quiet_libraries()
    trained = open_on_all(ranks, options.run, options.unfinished, read_stated(options))
    source = Path(options.input).expanduser()
    texts = list(islice(read_texts(source, options.column, trained.columns, trained.strip_citations), options.limit))
    if not texts:
        raise UserError(f"{options.input}: no texts in it")
    trained.check_writes_instructions()
    predictor = Predictor(trained, texts, settings, ranks)
    if num_cut := predictor.encoded.num_cut:
        print(f"{num_cut} of {len(texts)} texts were cut to fit in {trained.seq_len} tokens")
    predictor.write_file(options.output)
    print(f"{len(texts)} instructions in {options.output}")
    return 0


def build_options() -> ArgumentParser:
    parser = build_run_parser("generate", "Write an instruction for each text.")
    parser.add_argument(
        "input", metavar="INPUT", help="jsonl, json, csv, parquet or txt file, or a folder of txt files"
    )
    parser.add_argument("--output", type=Path, required=True, help="a .jsonl file; an unfinished one is completed")
    parser.add_argument("--column", help="the field or column that holds the text (default: the run's, or response)")
    add_generation_options(parser)
    add_devices_option(parser)
    return parser


def check_output(output: Path, source: Path) -> None:
    if output.suffix != ".jsonl":
        raise UserError(f"--output {output}: the output is a .jsonl file")
    if output.exists() and source.exists() and output.samefile(source):
        raise UserError(f"--output {output}: this is the input; choose another file")
