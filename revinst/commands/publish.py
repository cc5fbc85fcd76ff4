"""`revinst publish`: an adapter, a merged model or a data set to the Hub."""

import argparse
import sys
from pathlib import Path

from revinst.corpus.output import PUBLISHED
from revinst.errors import UserError
from revinst.progress import Stage

LEFT_OUT = (".*", "*.tmp", "*.lock", "__pycache__")  # the Hub client's own state and what a kill left


def main(args: list[str]) -> int:
    from revinst.commands.trained import build_parser, open_trained
    from revinst.data.tokenizer import load_tokenizer, looks_local
    from revinst.model.merge import MARKER, begin_with_bos

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
        from revinst.commands.card import write_card

        trained = open_trained(options.run, options.unfinished, options)
        if looks_local(trained.base):
            print(f"the adapter names the folder {trained.base} as its base, which others do not have; "
                  "`revinst merge` makes a model that needs no other", file=sys.stderr)  # fmt: skip
        if trained.run is not None:
            tokenizer = load_tokenizer(trained.base)
            begin_with_bos(tokenizer.hf, tokenizer.bos_id)
            tokenizer.hf.save_pretrained(str(trained.adapter))
        if trained.run is not None or not (trained.adapter / "README.md").is_file():  # somebody's own card stays
            write_card(trained.adapter, trained, options.push_to_hub)
        push(trained.adapter, options.push_to_hub, "adapter", public=options.public, dry_run=options.dry_run)
    return 0


def add_push_options(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument("--push_to_hub", metavar="ID", required=required, help="upload to this repository")
    parser.add_argument("--public", action="store_true", help="the repository may be read by everybody")
    parser.add_argument("--dry_run", action="store_true", help="only list the files and their sizes")


def list_files(folder: Path) -> list[Path]:
    """What is uploaded. Raises UserError for a folder with nothing in it."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.match(pattern) for part in parts_of(path, folder) for pattern in LEFT_OUT)
    ]
    if (folder / "card.json").is_file():  # a corpus
        files = [path for path in files if path.relative_to(folder).as_posix() in PUBLISHED]
    if not files:
        raise UserError(f"{folder}: no files in it")
    return files


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
    total = sum(path.stat().st_size for path in files)
    if dry_run:
        for path in files:
            print(f"{path.stat().st_size:>15,}  {path.relative_to(folder)}")
        print(f"{total:>15,}  bytes in {len(files)} files would go to {repository}; nothing was sent")
        return
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
                allow_patterns=[str(path.relative_to(folder)) for path in files],
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
