"""What a run was trained on, as hashes that a resumed run is compared by."""

import hashlib
from pathlib import Path
from typing import Any

from revinst.data.datamodule import InstructionDataModule

SAMPLE_BYTES = 1 << 20


def fingerprints(data: InstructionDataModule, base: str) -> dict[str, str]:
    """16 hex digits each."""
    return data.hashes | {"base": fingerprint_base(base)}


def fingerprint_base(base: str) -> str:
    """Of config.json and, of each weight file, name, size and a MiB at its start, middle and end.

    All of 13 GB would take longer to read than the model takes to load. For a hub id: of the snapshot in the cache,
    or `unknown` before the first download.
    """
    folder = Path(base).expanduser()
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        cached: Any = try_to_load_from_cache(base, "config.json")
        if not isinstance(cached, str):
            return "unknown"
        folder = Path(cached).parent
    parts = []
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        size = path.stat().st_size
        parts.append(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for start in sorted({0, max(0, size // 2), max(0, size - SAMPLE_BYTES)}):
                file.seek(start)
                parts.append(file.read(SAMPLE_BYTES))
    return digest(*parts)


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def hash_difference(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Lines `name: old -> new` for what differs; a hash that one side does not know is no difference."""
    return [
        f"{name}: {old[name]} -> {new[name]}"
        for name in new
        if old.get(name, "unknown") != "unknown" and new[name] not in ("unknown", old[name])
    ]
