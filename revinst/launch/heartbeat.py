"""Whether a rank moves: each counts its steps in a file that the agent reads. No collective and no thread."""

import faulthandler
import json
import os
import signal
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from revinst.launch.ranks import AGENT_FOLDER, is_of_agent

BEAT = struct.Struct("<qqd")
FLOOR_S = 300.0
TIMES = 20  # the longest step up to now
AT_REST = 12  # limits, for what is no step: a checkpoint, samples
SHOW_STACK = getattr(signal, "SIGUSR2", None)  # Windows has none


class Beat(NamedTuple):
    """number: of beats up to now. step: that runs or comes next. limit_s: that the next beat may take; 0: any time."""

    number: int
    step: int
    limit_s: float


class Heartbeat:
    """A rank's side. hang_s: the limit; auto: 20 times the longest step up to now, 5 minutes at least; 0: none."""

    def __init__(self, hang_s: float | str):
        self.hang_s, self.number, self.longest_s = hang_s, 0, 0.0
        self.last: float | None = None
        if is_of_agent():
            self.files = RankFiles(Path(os.environ[AGENT_FOLDER]), int(os.environ["RANK"]))
            self.file = self.files.beat.open("wb", buffering=0)
            self.died_at = int(self.files.died_at.read_bytes()) if self.files.died_at.is_file() else None
            if SHOW_STACK:
                faulthandler.register(SHOW_STACK, self.files.stack.open("wb"))

    def beat(self, step: int, ids: Sequence[str] = ()) -> None:
        """A step begins or has ended. ids: of its rows, which are noted where a rank has died at this step before."""
        if is_of_agent() and ids and step == self.died_at:
            self.files.rows.write_bytes(json.dumps(ids).encode())
        now = time.monotonic()
        if self.last is not None:
            self.longest_s = max(self.longest_s, now - self.last)
        self.last = now
        self.write(step, 1)

    def rest(self, step: int) -> None:
        """What follows, until the next beat, may take longer than a step."""
        self.last = None
        self.write(step, AT_REST)

    def write(self, step: int, limits: int) -> None:
        if is_of_agent():
            self.number += 1
            limit_s = max(FLOOR_S, TIMES * self.longest_s) if self.hang_s == "auto" else float(self.hang_s)
            self.file.seek(0)
            self.file.write(BEAT.pack(self.number, step, limits * limit_s))


class RankFiles:
    """What a rank leaves for the agent in the folder where they meet."""

    def __init__(self, folder: Path, rank: int):
        self.beat, self.rows, self.stack = (folder / f"{name}-{rank}" for name in ("beat", "rows", "stack"))
        self.died_at = folder / "died-at"  # the agent's: the step at which it started all ranks again

    def read_beat(self) -> Beat | None:
        """None until training has begun."""
        try:
            return Beat(*BEAT.unpack(self.beat.read_bytes()))
        except (OSError, struct.error):
            return None

    def read_rows(self) -> list[str]:
        return json.loads(self.rows.read_bytes()) if self.rows.is_file() else []

    def read_stack(self) -> str:
        return self.stack.read_text(encoding="utf-8", errors="replace") if self.stack.is_file() else ""

    def forget(self) -> None:
        for path in (self.beat, self.rows, self.stack):
            path.unlink(missing_ok=True)


class Watch:
    """The agent's side: how long no rank has moved, in seconds of its own looks: a suspended machine is no hang."""

    def __init__(self, ranks: list[RankFiles], interval_s: float):
        self.ranks, self.interval_s = ranks, interval_s
        self.seen: list[Beat | None] = [None] * len(ranks)
        self.waited_s = [0.0] * len(ranks)

    def find_hung(self) -> int | None:
        """The rank that has not moved for the longest, once that is too long.

        Others wait for a rank that is at rest, so the limit is that of the rank that may take longest.
        """
        beats = [rank.read_beat() for rank in self.ranks]
        for rank, beat in enumerate(beats):
            has_moved = None in beats or beat != self.seen[rank]  # the first to train waits for those that load
            self.waited_s[rank] = 0.0 if has_moved else self.waited_s[rank] + self.interval_s
        self.seen = beats
        limit_s = max(beat.limit_s if beat else 0 for beat in beats)
        longest_s = max(self.waited_s)
        return self.waited_s.index(longest_s) if 0 < limit_s < longest_s else None
