"""`revinst publish`: an adapter, a merged model or a data set to the Hub."""

import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from revinst.commands.options import add_push_options, build_run_parser, check_push_options, check_run, read_stated
from revinst.options import check_file
from revinst.runs.files import MARKER


def main(args: list[str]) -> int:
    options = build_options().parse_args(args)
    check_push_options(options)
    folder = Path(options.run)
    if options.dataset or (folder / MARKER).is_file():
        check_file(folder)
    else:
        check_run(options)
    return publish(options, folder)


def build_options() -> ArgumentParser:
    parser = build_run_parser("publish", "Upload a run's adapter, a merged model or a corpus; private by default.")
    add_push_options(parser, required=True)
    parser.add_argument("--dataset", action="store_true", help="RUN is a folder that revinst corpus wrote")
    return parser


def publish(options: Namespace, folder: Path) -> int:
    from revinst.data.redacted import has_contexts, is_unredacted
    from revinst.export.publish import check_contexts, check_redacted, publish_adapter, push
    from revinst.inference.trained import open_trained, unredacted_of_merged

    repository, keep_private = options.push_to_hub, options.keep_private
    if options.dataset:
        check_redacted([options.run] if is_unredacted(folder) else [], options.run, keep_private)
        check_contexts(has_contexts(folder), options.run, options.publish_context)
        push(folder, repository, "data set", public=options.public, dry_run=options.dry_run)
    elif (folder / MARKER).is_file():
        check_redacted(unredacted_of_merged(folder), options.run, keep_private)
        push(folder, repository, public=options.public, dry_run=options.dry_run)
    else:
        with tempfile.TemporaryDirectory() as exports:  # of a checkpoint; a dry run leaves none in the run
            aside = Path(exports) if options.dry_run else None
            trained = open_trained(options.run, options.unfinished, read_stated(options), exports=aside)
            check_redacted(trained.unredacted, options.run, keep_private)
            publish_adapter(trained, repository, public=options.public, dry_run=options.dry_run)
    return 0
