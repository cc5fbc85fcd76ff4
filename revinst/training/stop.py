"""SIGTERM, SIGINT and SLURM's SIGUSR1: finish the step, save, stop."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

import lightning as L

from revinst.launch.ranks import STOP_SIGNALS

Handler = Callable[[int, FrameType | None], object] | int | None  # of a signal


class Stopped(BaseException):
    """The run was told to stop. Not an Exception, as KeyboardInterrupt is not: nothing on the way may swallow it."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.name, self.exit_code = signal.Signals(signum).name, STOP_SIGNALS[signal.Signals(signum)]


class StopSignals(L.Callback):
    """Handlers that ask for a stop at the next step boundary. Before training, and on a second SIGINT, at once.

    Lightning's own lose work: on SIGTERM it saves nothing and exits 0, on SIGINT it exits 1, in mid-step.
    """

    def __init__(self) -> None:
        self.received = 0  # the signal's number
        self.is_training = False
        self.handlers: dict[int, Handler] = {}

    def __enter__(self) -> "StopSignals":
        self.handlers = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum, handler in self.handlers.items():
                signal.signal(signum, handler)

    def install(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in STOP_SIGNALS:
                signal.signal(signum, self.handle)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if not self.is_training or (signum == self.received == signal.SIGINT):
            raise Stopped(signum)
        if not self.received:
            self.received = signum
            note = f"\n{signal.Signals(signum).name}: stopping after this step; SIGINT twice stops at once\n"
            os.write(2, note.encode())

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.install()  # Lightning has put its own in their place
        self.is_training = True
