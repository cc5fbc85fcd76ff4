"""Training, validation and held-out texts: no thread is in two, and the newest are held out if dated."""

import hashlib
from collections.abc import Sequence

import numpy as np

from revinst.errors import UserError


def check_shares(heldout: float, val: float) -> None:
    if not 0 <= heldout + val < 1 or min(heldout, val) < 0:
        raise UserError(f"--heldout {heldout} and --val {val} must leave texts to train on")


def assign_parts(
    groups: Sequence[str] | np.ndarray,
    dates: Sequence[str] | np.ndarray,
    heldout: float,
    val: float,
    order: str = "",
    seed: int = 0,
) -> list[str]:
    """`train`, `val` or `heldout` for each text; texts of one group share it.

    groups, dates: ASCII. order: `time` takes the groups with the newest last message as held out and the next as
    validation; `group` takes them by a hash of seed and name; "": time where every text has a date.
    """
    check_shares(heldout, val)
    days = np.asarray(dates, dtype=bytes)
    names, group_of = np.unique(np.asarray(groups, dtype=bytes), return_inverse=True)
    by_group = np.lexsort((days, group_of))  # texts, a group after the other, its newest last
    ends = np.bincount(group_of).cumsum()
    if order == "time" or (not order and (days != b"").all()):
        keys = days[by_group[ends - 1]]
    else:
        digests = (hashlib.sha256(f"{seed}\0".encode() + name).digest() for name in names)
        keys = np.fromiter((int.from_bytes(digest[:8]) for digest in digests), np.uint64, len(names))
    parts = ["train"] * len(days)
    num_left = {"heldout": round(heldout * len(days)), "val": round(val * len(days))}
    for group in np.lexsort((names, keys))[::-1]:
        members = by_group[ends[group - 1] if group else 0 : ends[group]].tolist()
        part = next((part for part in num_left if len(members) <= num_left[part]), "train")
        if part in num_left:
            num_left[part] -= len(members)
            for member in members:
                parts[member] = part
    if parts and "train" not in parts:
        raise UserError(f"{len(parts)} texts are too few to split; lower --heldout and --val")
    return parts
