"""Training, validation and held-out texts: no thread is in two, and the newest are held out if dated."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from revinst.errors import UserError

ORDERS = ("time", "group")


def assign_parts(
    groups: Sequence[str], dates: Sequence[str], heldout: float, val: float, order: str = "", seed: int = 0
) -> list[str]:
    """`train`, `val` or `heldout` for each row; rows of one group share it.

    order: `time` takes the groups with the newest last message as held out and the next as validation; `group` takes
    them by a hash of seed and name; "": time where every row has a date.
    """
    if not 0 <= heldout + val < 1 or min(heldout, val) < 0:
        raise UserError(f"--heldout {heldout} and --val {val} must leave texts to train on")
    rows_of = defaultdict(list)
    for row, group in enumerate(groups):
        rows_of[group].append(row)

    def place(group: str) -> tuple[str, str]:
        if order == "time" or (not order and all(dates)):
            return max(dates[row] for row in rows_of[group]), group
        return "", hashlib.sha256(f"{seed}\0{group}".encode()).hexdigest()

    parts = ["train"] * len(groups)
    room = {"heldout": round(heldout * len(groups)), "val": round(val * len(groups))}
    for group in sorted(rows_of, key=place, reverse=True):
        rows = rows_of[group]
        part = next((part for part in room if len(rows) <= room[part]), "train")
        if part in room:
            room[part] -= len(rows)
            for row in rows:
                parts[row] = part
    if groups and "train" not in parts:
        raise UserError(f"{len(groups)} texts are too few to split; lower --heldout and --val")
    return parts
