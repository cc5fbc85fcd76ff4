"""Encoded documents on disk, under a hash of everything that they depend on, mapped into memory.

Two runs that build the same one both get it: each writes a folder of its own and renames it, and the second rename
finds the first one's. Nothing is ever changed in place, so the folder may be deleted at any time between runs. What
was not opened for `KEPT_DAYS` is deleted when another is written: these are texts of people, and nobody looks there.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from revinst.data.encoding import Documents, concatenate_documents
from revinst.data.example_table import Discarded, Examples

FORMAT = 2  # raised when the same inputs would give other arrays or files
KEPT_DAYS = 30


def cache_folder() -> Path:
    """`$REVINST_CACHE`, else revinst/ in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "revinst"
    return Path(os.environ.get("REVINST_CACHE") or default)


def hash_inputs(examples: Examples, **settings: object) -> str:
    """32 hex digits over the texts and the settings."""
    digest = hashlib.sha256(json.dumps([FORMAT, settings], sort_keys=True).encode())
    for block in examples.blocks("id", "instruction", "context", "response"):
        for texts in block:
            digest.update("\0".join(texts).encode() + b"\0\0")
    return digest.hexdigest()[:32]


def cache_documents(key: str, build: Callable[[], Iterator[Documents]]) -> Documents:
    """The documents with this key, built block by block if they are not there yet.

    Where the cache can't be written (a read-only home, a full disk), they are built in memory.
    """
    folder = cache_folder() / "documents" / key
    try:
        if not (folder / "meta.json").is_file():
            write_documents(folder, build())
            forget_unused(folder.parent)
        try:
            return open_documents(folder)
        except (ValueError, TypeError, KeyError, EOFError):
            print(f"{folder}: not as it was written; built again", file=sys.stderr)
            shutil.rmtree(folder)
            write_documents(folder, build())
            return open_documents(folder)
    except OSError as error:
        print(f"{folder}: no cache ({error.strerror or error}); encoded in memory", file=sys.stderr)
        return concatenate_documents(list(build()))


def write_documents(folder: Path, blocks: Iterator[Documents]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        lengths, truncated = [np.zeros(0, np.int64)], 0
        ids: list[str] = []
        discarded: list[dict[str, str]] = []
        with (temporary / "input_ids.i32").open("wb") as inputs, (temporary / "targets.i32").open("wb") as targets:
            for block in blocks:
                inputs.write(np.ascontiguousarray(block.input_ids, dtype="<i4").data)
                targets.write(np.ascontiguousarray(block.targets, dtype="<i4").data)
                lengths.append(block.lengths)
                ids += block.ids
                truncated += block.truncated
                discarded += map(asdict, block.discarded)
        np.save(temporary / "lengths.npy", np.concatenate(lengths).astype(np.int32))
        (temporary / "ids.json").write_text(json.dumps(ids), encoding="utf-8", newline="\n")
        meta = {"truncated": truncated, "discarded": discarded, "sha256": hash_files(temporary)}
        (temporary / "meta.json").write_text(json.dumps(meta), encoding="utf-8", newline="\n")
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / "meta.json").is_file():  # else another run was first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def forget_unused(parent: Path) -> None:
    """Deletes what was last opened, or begun, more than `KEPT_DAYS` ago. Another run may do so at the same time."""
    for folder in parent.iterdir():
        try:
            age_s = time.time() - folder.stat().st_mtime
        except FileNotFoundError:
            continue
        if age_s > KEPT_DAYS * 24 * 3600:
            shutil.rmtree(folder, ignore_errors=True)


def hash_files(folder: Path) -> str:
    """Of all but meta.json, which holds it: a power cut leaves files of the right length without their content."""
    digest = hashlib.sha256()
    for name in ("input_ids.i32", "targets.i32", "lengths.npy", "ids.json"):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def open_documents(folder: Path) -> Documents:
    """Raises ValueError, TypeError, KeyError or EOFError for a folder that is not as it was written."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    if meta["sha256"] != hash_files(folder):
        raise ValueError("its files have changed")
    with suppress(OSError):  # of another user, or on a disk that is read only
        os.utime(folder)
    lengths = np.load(folder / "lengths.npy")
    input_ids, targets = (
        np.memmap(folder / name, dtype="<i4", mode="r") if lengths.any() else np.zeros(0, np.int32)
        for name in ("input_ids.i32", "targets.i32")
    )
    return Documents(
        input_ids,
        targets,
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        json.loads((folder / "ids.json").read_text(encoding="utf-8")),
        meta["truncated"],
        [Discarded(**each) for each in meta["discarded"]],
    )
