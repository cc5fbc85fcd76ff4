"""`revinst demo`: a page on this machine to try a run."""

from argparse import ArgumentParser

from revinst.commands.options import build_run_parser, check_run, read_stated
from revinst.config.words import DTYPES
from revinst.errors import UserError
from revinst.inference.engine.settings import GenerationSettings
from revinst.system import quiet_libraries


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    GenerationSettings(max_new_tokens=options.max_new_tokens, precision=DTYPES[0])
    check_run(options)
    from revinst.corpus.candidates import Writer
    from revinst.data.split import read_split, select_examples
    from revinst.inference.trained import open_trained
    from revinst.pages.instructions import build_page
    from revinst.pages.serve import load_gradio, serve

    gradio = load_gradio()
    settings = GenerationSettings(max_new_tokens=options.max_new_tokens)
    quiet_libraries()
    trained = open_trained(options.run, options.unfinished, read_stated(options))
    trained.check_writes_instructions()
    train = select_examples(trained.load_examples(), read_split(trained.run.split).train) if trained.run else []
    page = build_page(gradio, Writer(trained, trained.load(settings), settings), train, options.run)
    try:
        serve(gradio, page, options.port)
    except OSError as error:
        raise UserError(f"--port {options.port}: {error}") from None
    return 0


def build_options() -> ArgumentParser:
    parser = build_run_parser("demo", "A page on this machine (127.0.0.1) to try a run.")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument("--max_new_tokens", type=int, default=100)
    return parser
