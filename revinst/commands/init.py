"""`revinst init`: a folder with a config to begin with."""

from argparse import ArgumentParser
from pathlib import Path
from shlex import quote

from revinst.config.settings import Config
from revinst.config.shipped import QUICKSTART_BASE, list_shipped
from revinst.config.starter import read_starter, write_starter
from revinst.options import Parser


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    name = options.config or ("llama2-7b" if options.base else "quickstart")
    path = write_starter(options.folder, name, options.base)
    print(path, "next:", *list_next(path, read_starter(path)), sep="\n")
    return 0


def list_next(path: Path, config: Config) -> list[str]:
    enter = [f"  cd {quote(str(path.parent))}"] * (path.parent != Path())
    fetch = ["  revinst fetch quickstart"] * (config.model.base == QUICKSTART_BASE)
    steps = [f"  revinst {command} {path.name}" for command in ("inspect", "plan", "fit")]
    return [*enter, *fetch, *steps, f"  revinst evaluate {quote(str(Path(config.runs_dir, config.run_name)))}"]


def build_options() -> ArgumentParser:
    parser = Parser(prog="revinst init", description="Write a config with a comment a key, to edit and to fit.")
    parser.add_argument("folder", metavar="DIR", type=Path, help="made if it is not there; gets config.yaml")
    parser.add_argument("--base", metavar="ID", help="hub id or folder of the base (default: the config's own)")
    which = "the one to begin from (default: quickstart, and with --base llama2-7b)"
    parser.add_argument("--config", choices=list_shipped(), help=which)
    return parser
