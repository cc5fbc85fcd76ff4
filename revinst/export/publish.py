"""Uploads of a folder to the Hub, or what they would send."""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from revinst.data.tokenizer import looks_local
from revinst.data.tokenizer_files import write_tokenizer
from revinst.errors import UserError
from revinst.export.card import build_card
from revinst.inference.trained import Trained
from revinst.progress import Stage
from revinst.runs.files import read_json, write_text

# What of a corpus may leave the house: no text that was left out, no file names, no checkpoints of rounds.
PUBLISHED = (
    "README.md",
    "card.json",
    "dataset.jsonl",
    "alpaca.jsonl",
    "messages.jsonl",
    "dataset.parquet",
    "split.json",
)

LEFT_OUT = (".*", "*.tmp", "*.lock", "__pycache__")  # the Hub client's own state and what a kill left


def check_redacted(unredacted: Sequence[str], what: str, keep_private: bool) -> None:
    """Raises UserError for what holds somebody's texts as they were, unless it is to stay private.

    unredacted: the sets of own texts that it was made of, or trained on, without --redact.
    """
    if unredacted and not keep_private:
        raise UserError(
            f"{what}: made of own texts without --redact ({', '.join(unredacted)}); make them again with --redact in "
            "another folder, or pass --keep_private to upload it for you alone"
        )


def check_set(folder: Path) -> None:
    """Raises UserError for a corpus with canaries in it, and for one that is not finished."""
    if (
        all((folder / name).is_file() for name in ("texts.jsonl", "dataset.jsonl"))
        and not (folder / "card.json").is_file()
    ):
        raise UserError(f"{folder}: an unfinished corpus; give its command again")
    try:
        card = read_json(folder / "card.json")
    except UserError:  # none, or somebody else's
        return
    if isinstance(card, dict) and card.get("canaries"):
        raise UserError(f"{folder}: canaries are planted in it; give its command again without --canaries")


def check_contexts(has_contexts: bool, what: str, publish_context: bool) -> None:
    """Raises UserError for a set with what others wrote to its owner, unless that was said twice."""
    if has_contexts and not publish_context:
        raise UserError(
            f"{what}: a set with what others wrote to you (corpus --context); make one without it in another folder, "
            "or say --publish_context as well"
        )


def list_files(folder: Path, empty: bool = False) -> dict[str, Path]:
    """What is uploaded, by its name there. Raises UserError where that is nothing, unless it may be `empty`."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.match(pattern) for part in parts_of(path, folder) for pattern in LEFT_OUT)
    ]
    if any((folder / name).is_file() for name in ("card.json", "texts.jsonl")):  # a corpus, finished or not
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
    if what == "data set":
        check_set(folder)
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


def publish_adapter(trained: Trained, repository: str, *, public: bool = False, dry_run: bool = False) -> None:
    """A run's with its tokenizer and a new card, or an adapter folder with its own card. A dry run writes nothing."""
    if looks_local(trained.base):
        print(f"the adapter names the folder {trained.base} as its base, which others do not have; "
              "`revinst merge` makes a model that needs no other", file=sys.stderr)  # fmt: skip
    with tempfile.TemporaryDirectory() as aside:
        made = Path(aside)
        if trained.run is not None or not (trained.adapter / "README.md").is_file():
            write_text(made / "README.md", card := build_card(trained, repository))
            if dry_run:
                print(card, file=sys.stderr)
        if trained.run is not None:
            write_tokenizer(trained.tokenizer, made, add_bos=not trained.template.has_bos)
        if dry_run:
            print_files(list_files(trained.adapter) | list_files(made, empty=True), repository)
        else:
            shutil.copytree(made, trained.adapter, dirs_exist_ok=True)
            push(trained.adapter, repository, "adapter", public=public)
