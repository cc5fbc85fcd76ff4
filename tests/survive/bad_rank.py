"""A callback that makes the second rank fail in the middle of a step."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L


class BadRank(L.Callback):
    """how: die, sleep or stop (SIGSTOP). times: so often; counted in a file."""

    def __init__(self, how: str, step: int, times: int, count: str):
        self.how, self.step, self.times, self.count = how, step, times, Path(count)

    def on_before_optimizer_step(self, trainer: L.Trainer, module: Any, optimizer: Any) -> None:
        if trainer.global_rank != 1 or module.step != self.step:
            return
        done = self.count.read_text() if self.count.is_file() else ""
        if len(done) < self.times:
            self.count.write_text(done + "x")
            if self.how == "sleep":
                time.sleep(600)
            os.kill(os.getpid(), signal.SIGKILL if self.how == "die" else signal.SIGSTOP)
