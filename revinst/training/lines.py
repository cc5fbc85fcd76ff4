"""How far training is, in lines: steps, loss, speed and the time that is left."""

import math
import time
from typing import cast

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

from revinst.data.batch import StepBatch
from revinst.progress import Stage, in_words, write
from revinst.training.module import InstructionModule


class ProgressLines(L.Callback):
    """Says how far training is and how long it will take, from the first rank.

    The first step warms up kernels and allocators, so speed and time left are of the steps after it, in this process;
    they leave validation out. Nothing is asked of the device or of other ranks but the loss, when a line is written.

    Args:
        beside_bar: Lightning draws its bar, and only one line is written beside it: how long the run will take.
    """

    def __init__(self, beside_bar: bool = False):
        self.beside_bar = beside_bar
        self.training: Stage | None = None
        self.validation: Stage | None = None

    def on_train_start(self, trainer: L.Trainer, module: InstructionModule) -> None:
        if trainer.is_global_zero:
            self.first_step = module.step
            self.training = Steps("training", count_steps(trainer, module), done=module.step, bar=not self.beside_bar)
            self.training.details = lambda: metric_in_words(trainer, "train/loss", "loss")
            self.training.__enter__()
            if self.training.total and self.training.total - module.step > 4:
                write("the first step takes longest; after the second a line says how long the rest will take")

    def on_train_batch_end(
        self, trainer: L.Trainer, module: InstructionModule, outputs: None, batch: StepBatch, batch_idx: int
    ) -> None:
        if (stage := self.training) is None:
            return
        taken = module.step - self.first_step
        if taken == 1:
            stage.warm_up()
        else:
            # of this rank, times the ranks: close enough, and no collective
            stage.advance(tokens=batch.num_tokens * trainer.world_size, speak=taken == 2)
        if taken == 2 and not stage.writes and stage.total and stage.total - stage.done > 2:
            left, each = stage.total - stage.done, stage.seconds_each or 0.0
            write(f"about {in_words(each * left)} for {left:,} more steps (1 step took {in_words(each)})")

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            batches = sum(int(count) for count in trainer.num_val_batches if math.isfinite(count))
            self.validation = Stage("validation", batches, "batches", brief=True, bar=not self.beside_bar)
            self.validation.details = lambda: metric_in_words(trainer, "val/loss")
            self.validation.__enter__()

    def on_validation_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        if self.validation is not None:
            self.validation.advance()

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.validation is not None:
            self.validation.end()
            if self.training is not None:
                self.training.skip_time(time.monotonic() - self.validation.started)
            self.validation = None

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.end(is_whole=True)

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self.end(is_whole=False)

    def end(self, is_whole: bool) -> None:
        for stage in (self.validation, self.training):
            if stage is not None:
                stage.end(is_whole)
        self.validation = self.training = None


class StepsBar(RichProgressBar):
    """Lightning's bar, whose end is that of the run where `max_steps` comes before the end of an epoch."""

    @property
    def total_train_batches(self) -> int | float:
        """Asked when an epoch begins: in it, with those before a resumed run's place."""
        trainer, module = self.trainer, cast(InstructionModule, self.trainer.lightning_module)
        total = trainer.num_training_batches
        if trainer.max_steps <= 0:
            return total
        completed = (
            trainer.fit_loop.epoch_loop.batch_progress.current.completed % total
        )  # the last epoch's, or this one's
        return min(total, completed + trainer.max_steps - module.step)


class Steps(Stage):
    """`step 12 of 34`"""

    def count(self) -> str:
        return f"step {self.done:,}" + (f" of {self.total:,}" if self.total else "")


def count_steps(trainer: L.Trainer, module: InstructionModule) -> int | None:
    """Optimizer steps at the end of the run, by our count; None for a run without a limit."""
    by_steps = trainer.max_steps if trainer.max_steps > 0 else math.inf
    epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else math.inf
    total = min(by_steps, epochs * trainer.num_training_batches + module.extra_steps)
    return int(total) if math.isfinite(total) else None


def metric_in_words(trainer: L.Trainer, name: str, title: str = "") -> str:
    value = trainer.callback_metrics.get(name)
    return "" if value is None else f"{title or name} {float(value):.3f}"
