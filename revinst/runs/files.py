"""Files that are written as a whole or not at all, and read with one clear line when they are spoilt."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from revinst.errors import UserError
from revinst.system import sync

MARKER = "revinst_merge.json"  # beside a merged model: which adapter is in it


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: can't be read as JSON ({error})") from None


def hash_file(path: Path) -> str:
    """SHA-256 of its bytes, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_adapter(folder: Path) -> str:
    """SHA-256 of an adapter's tensors, whatever folder they lie in."""
    path = folder / "adapter_model.safetensors"
    try:
        return hash_file(path)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from None


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replaces a file as a whole: a reader sees the old or the new content, never half of it, power cut or not."""
    with whole_file(path, shared=True) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_private(path: Path, text: str) -> None:
    """As `write_text`; at no moment may anybody but its owner read it (on Windows: whoever may its folder)."""
    with whole_file(path) as temporary:
        temporary.unlink(missing_ok=True)  # of a call that was killed, maybe with other rights
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)


@contextmanager
def whole_file(path: Path, shared: bool = False) -> Iterator[Path]:
    """A temporary path whose file takes the place of `path` when the body ends; after an error nothing is left of it.

    shared: other processes may write it at the same time. Else what a killed one left is written over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp" if shared else f".{path.name}.tmp")
    try:
        with naming(path):
            yield temporary
            sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `folder` when the body ends; after an error nothing is left of it."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with naming(folder):
            temporary.mkdir(parents=True)
            yield temporary
            for path in temporary.rglob("*"):
                sync(path)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Names the path in errors of the disk that don't, and makes OSErrors of those that Rust's writers have their own
    kinds for (safetensors, tokenizers).
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    except Exception as error:  # Rust's writers raise kinds of their own, with the number in the text
        if "(os error " in str(error):
            raise OSError(f"{path}: {error}") from error
        raise
