"""`revinst publish`: an adapter, a merged model or a data set to the Hub."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from revinst.export.publish import list_files, print_files, push
from revinst.runs.files import write_text


def main(args: list[str]) -> int:
    from revinst.inference.options import build_parser
    from revinst.model.adapter import MARKER

    parser = build_parser("publish", "Upload a run's adapter, a merged model or a corpus; private by default.")
    add_push_options(parser, required=True)
    parser.add_argument("--dataset", action="store_true", help="RUN is a corpus folder; it becomes a data set")
    options = parser.parse_args(args)
    folder = Path(options.run)
    if options.dataset:
        push(folder, options.push_to_hub, "data set", public=options.public, dry_run=options.dry_run)
    elif (folder / MARKER).is_file():
        push(folder, options.push_to_hub, public=options.public, dry_run=options.dry_run)
    else:
        publish_adapter(options)
    return 0


def publish_adapter(options: argparse.Namespace) -> None:
    """A run's with its tokenizer and a new card, or an adapter folder with its own card. A dry run writes nothing."""
    from revinst.data.tokenizer import load_tokenizer, looks_local
    from revinst.export.card import build_card
    from revinst.export.merge import begin_with_bos
    from revinst.inference.trained import open_trained

    with tempfile.TemporaryDirectory() as aside:
        exports, made = Path(aside) / "exports", Path(aside) / "made"
        trained = open_trained(options.run, options.unfinished, options, exports if options.dry_run else None)
        if looks_local(trained.base):
            print(f"the adapter names the folder {trained.base} as its base, which others do not have; "
                  "`revinst merge` makes a model that needs no other", file=sys.stderr)  # fmt: skip
        made.mkdir()
        if trained.run is not None or not (trained.adapter / "README.md").is_file():
            write_text(made / "README.md", card := build_card(trained, options.push_to_hub))
            if options.dry_run:
                print(card, file=sys.stderr)
        if trained.run is not None:
            tokenizer = load_tokenizer(trained.base)
            begin_with_bos(tokenizer.hf, tokenizer.bos_id)
            tokenizer.hf.save_pretrained(str(made))
        if options.dry_run:
            print_files(list_files(trained.adapter) | list_files(made, empty=True), options.push_to_hub)
        else:
            shutil.copytree(made, trained.adapter, dirs_exist_ok=True)
            push(trained.adapter, options.push_to_hub, "adapter", public=options.public)


def add_push_options(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument("--push_to_hub", metavar="ID", required=required, help="upload to this repository")
    parser.add_argument("--public", action="store_true", help="the repository may be read by everybody")
    parser.add_argument("--dry_run", action="store_true", help="only list the files and their sizes")
