"""`revinst publish`: an adapter, a merged model or a data set to the Hub."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from revinst.corpus.output import PUBLISHED
from revinst.errors import UserError
from revinst.progress import Stage
from revinst.run import write_text

LEFT_OUT = (".*", "*.tmp", "*.lock", "__pycache__")  # the Hub client's own state and what a kill left


def main(args: list[str]) -> int:
    from revinst.commands.trained import build_parser
    from revinst.model.merge import MARKER

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
    from revinst.commands.card import build_card
    from revinst.commands.trained import open_trained
    from revinst.data.tokenizer import load_tokenizer, looks_local
    from revinst.model.merge import begin_with_bos

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


def list_files(folder: Path, empty: bool = False) -> dict[str, Path]:
    """What is uploaded, by its name there. Raises UserError where that is nothing, unless it may be `empty`."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.match(pattern) for part in parts_of(path, folder) for pattern in LEFT_OUT)
    ]
    if (folder / "card.json").is_file():  # a corpus
        files = [path for path in files if path.relative_to(folder).as_posix() in PUBLISHED]
    if not files and not empty:
        raise UserError(f"{folder}: no files in it")
    return {path.relative_to(folder).as_posix(): path for path in files}


def print_files(files: dict[str, Path], repository: str) -> None:
    sizes = {name: files[name].stat().st_size for name in sorted(files)}
    for name, size in sizes.items():
        print(f"{size:>15,}  {name}")
    print(f"{sum(sizes.values()):>15,}  bytes in {len(files)} files would go to {repository}; nothing was sent")


def parts_of(path: Path, folder: Path) -> list[Path]:
    return [Path(part) for part in path.relative_to(folder).parts]


def push(
    folder: Path, repository: str, what: str = "merged model", *, public: bool = False, dry_run: bool = False
) -> None:
    """Uploads a folder and prints what went where. A file that arrived is not sent again after a cut.

    what: adapter, merged model or data set. The token comes from the environment or `hf auth login`, never from us.
    Raises UserError when it fails; the folder stays.
    """
    files = list_files(folder)
    if dry_run:
        print_files(files, repository)
        return
    total = sum(path.stat().st_size for path in files.values())
    from huggingface_hub import HfApi

    kind = "dataset" if what == "data set" else "model"
    try:
        api = HfApi()
        api.create_repo(repository, repo_type=kind, private=not public, exist_ok=True)
        if not public and not api.repo_info(repository, repo_type=kind).private:
            raise UserError(f"--push_to_hub {repository}: it is there already and public; pass --public to add to it")
        with Stage(f"uploading {total / 1e9:.1f} GB in {len(files)} files to {repository}", brief=True, bar=False):
            api.upload_folder(
                repo_id=repository,
                repo_type=kind,
                folder_path=str(folder),
                allow_patterns=list(files),
                commit_message=f"Upload {what}",
            )
    except UserError:
        raise
    except Exception as error:  # the hub client raises its own kinds, httpx's and the operating system's
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--push_to_hub {repository}: {reason}; the {what} is in {folder}; "
            "`revinst publish` goes on with the files that have not arrived"
        ) from error
    print(f"uploaded to {repository}{'' if public else ' (private)'}")
