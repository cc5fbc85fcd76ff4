"""What a run was trained on, as hashes that a resumed run is compared by."""

from revinst.data.datamodule import InstructionDataModule
from revinst.model.fingerprint import fingerprint_base


def fingerprints(data: InstructionDataModule, base: str) -> dict[str, str]:
    """16 hex digits each."""
    return data.hashes | {"base": fingerprint_base(base)}


def hash_difference(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Lines `name: old -> new` for what differs; a hash that one side does not know is no difference."""
    return [
        f"{name}: {old[name]} -> {new[name]}"
        for name in new
        if old.get(name, "unknown") != "unknown" and new[name] not in ("unknown", old[name])
    ]
