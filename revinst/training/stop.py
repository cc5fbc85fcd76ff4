"""SIGTERM, SIGINT and SLURM's SIGUSR1: finish the step, save, stop. And the end of all ranks when one dies."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

import lightning as L
from lightning.pytorch.strategies import ParallelStrategy

from revinst.launch.watch import RankWatch

Handler = Callable[[int, FrameType | None], object] | int | None  # of a signal
EXIT_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
if hasattr(signal, "SIGUSR1"):  # not on Windows
    EXIT_CODES[signal.SIGUSR1] = 143


class Stopped(BaseException):
    """The run was told to stop. Not an Exception, as KeyboardInterrupt is not: nothing on the way may swallow it.

    is_alone: the other ranks don't know of it, since it did not wait for the end of a step.
    """

    def __init__(self, signum: int, is_alone: bool = False):
        super().__init__(signal.Signals(signum).name)
        self.is_alone = is_alone
        self.name, self.exit_code = signal.Signals(signum).name, EXIT_CODES[signal.Signals(signum)]


class StopSignals(L.Callback):
    """Handlers that ask for a stop at the next step boundary. Before training, and on a second SIGINT, at once.

    Lightning's own lose work: on SIGTERM it saves nothing and exits 0, on SIGINT it exits 1, in mid-step.
    """

    def __init__(self) -> None:
        self.received = 0  # the signal's number
        self.is_training = False
        self.handlers: dict[int, Handler] = {}

    def __enter__(self) -> "StopSignals":
        self.handlers = {signum: signal.getsignal(signum) for signum in EXIT_CODES}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum, handler in self.handlers.items():
                signal.signal(signum, handler)

    def install(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in EXIT_CODES:
                signal.signal(signum, self.handle)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if not self.is_training or (signum == self.received == signal.SIGINT):
            raise Stopped(signum, is_alone=True)
        if not self.received:
            self.received = signum
            note = f"\n{signal.Signals(signum).name}: stopping after this step; SIGINT twice stops at once\n"
            os.write(2, note.encode())

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.install()  # Lightning has put its own in their place
        self.is_training = True


class DeadRanks(L.Callback):
    """No rank waits for one that has died; see `watch.py`. From before the base is loaded to the end."""

    def __init__(self) -> None:
        self.watch: RankWatch | None = None

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        strategy = trainer.strategy
        if isinstance(strategy, ParallelStrategy) and trainer.world_size > 1 and self.watch is None:
            assert strategy.cluster_environment is not None
            address = strategy.cluster_environment.main_address
            self.watch = RankWatch(trainer.global_rank, trainer.world_size, address, strategy.broadcast)

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        if self.watch is None:
            return
        if isinstance(exception, Exception) or getattr(exception, "is_alone", False):
            self.watch.fail(f"{type(exception).__name__}: {str(exception)[:500]}")
        else:
            self.watch.close()  # a signal that all ranks stop at together

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        if self.watch is not None:
            self.watch.close()
