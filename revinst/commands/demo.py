"""`revinst demo`: a page on this machine to try a run, whichever way it writes."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

from revinst.commands.options import build_run_parser, check_run, read_stated
from revinst.config.words import DTYPES
from revinst.data.redacted import read_placeholders
from revinst.errors import UserError
from revinst.inference.engine.settings import GenerationSettings
from revinst.system import quiet_libraries


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    GenerationSettings(max_new_tokens=options.max_new_tokens or 1, precision=DTYPES[0])
    check_run(options)
    placeholders = read_placeholders(Path(options.placeholders)) if options.placeholders else None
    from revinst.pages.serve import load_gradio, serve

    gradio = load_gradio()
    quiet_libraries()
    page = build_page(gradio, options, placeholders)
    try:
        serve(gradio, page, options.port)
    except OSError as error:
        raise UserError(f"--port {options.port}: {error}") from None
    return 0


def build_page(gradio: ModuleType, options: Namespace, placeholders: dict[str, str] | None) -> Any:
    from revinst.corpus.candidates import Writer
    from revinst.inference.trained import open_trained
    from revinst.pages import instructions, writing
    from revinst.pages.examples import read_examples

    trained = open_trained(options.run, options.unfinished, read_stated(options))
    settings = GenerationSettings(max_new_tokens=options.max_new_tokens or trained.new_tokens)
    if placeholders is not None and not trained.writes_texts:
        raise UserError(f"--placeholders: for a run that writes texts; {options.run} writes instructions")
    train, examples = read_examples(trained)
    if trained.writes_texts:
        letters = writing.LetterWriter(trained, trained.load(settings), settings, placeholders)
        return writing.build_page(gradio, letters, examples, options.run)
    writer = Writer(trained, trained.load(settings), settings)
    return instructions.build_page(gradio, writer, train, examples, options.run)


def build_options() -> ArgumentParser:
    parser = build_run_parser("demo", "A page on this machine (127.0.0.1) to try a run.")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument("--max_new_tokens", type=int, help="default: 100 for instructions, 400 for texts")
    restored = "OUT.placeholders.json of revinst corpus --redact: puts back what they stand for"
    parser.add_argument("--placeholders", metavar="FILE", help=restored)
    return parser
