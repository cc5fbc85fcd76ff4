"""A base's folder: whether it holds a model, and which one as a hash. Reads no weights."""

import hashlib
from pathlib import Path

from revinst.errors import UserError

SAMPLE_BYTES = 1 << 20


def fingerprint_base(base: str) -> str:
    """Of config.json and, of each weight file, name, size and a MiB at its start, middle and end.

    All of 13 GB would take longer to read than the model takes to load. For a hub id: of the snapshot in the cache,
    or `unknown` before the first download.
    """
    folder = find_base(base)
    if folder is None:
        return "unknown"
    parts = []
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        size = path.stat().st_size
        parts.append(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for start in sorted({0, max(0, size // 2), max(0, size - SAMPLE_BYTES)}):
                file.seek(start)
                parts.append(file.read(SAMPLE_BYTES))
    return digest(*parts)


def identify_base(base: str) -> str:
    """A folder's fingerprint; of a hub id its commit, which is known before the weights are there."""
    folder = find_base(base)
    if folder is None or Path(base).expanduser().is_dir():
        return fingerprint_base(base)
    return folder.name


def find_base(base: str) -> Path | None:
    """The base's folder, of a hub id the snapshot in the cache; None before the first download."""
    folder = Path(base).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(base, "config.json")
    return Path(cached).parent if isinstance(cached, str) else None


def check_folder(base: str) -> str:
    """The path of a local base, or the hub id as it is. Raises UserError for a folder without a model."""
    path = Path(base).expanduser()
    if not path.is_dir():
        return base
    if not (path / "config.json").is_file():
        raise UserError(f"model.base {base}: no config.json in this folder")
    if not list(path.glob("*.safetensors")):
        raise UserError(f"model.base {base}: no *.safetensors weights in this folder (pickled weights are not loaded)")
    return str(path)


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
