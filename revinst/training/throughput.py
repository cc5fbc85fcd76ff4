"""Tokens a second and the peak of memory, as logged numbers."""

import time

import lightning as L
import torch

from revinst.data.batch import StepBatch
from revinst.training.metrics import Sum
from revinst.training.module import InstructionModule


class Throughput(L.Callback):
    """Logs tokens/s of all ranks over the last logging interval, and the peak of GPU memory on the fullest rank."""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.all_tokens = Sum(trainer.strategy.root_device)
        self.tokens, self.since = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: InstructionModule, outputs: None, batch: StepBatch, batch_idx: int
    ) -> None:
        # training_step ends by reading a number from the device, so the clock needs no other wait
        self.tokens += batch.num_tokens
        if module.step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        seconds = time.perf_counter() - self.since
        values = {"perf/tokens_per_s": float(self.all_tokens.over_ranks(self.tokens)) / seconds}
        if torch.cuda.is_available():
            values["perf/peak_gib"] = peak_gib(module)
        module.log_numbers(values)
        self.tokens, self.since = 0, time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.tokens, self.since = 0, time.perf_counter()  # validation and samples are not training time


def peak_gib(module: InstructionModule) -> float:
    """Of memory on the GPU of the rank that needed most; a collective."""
    return float(module.max_over_ranks(torch.cuda.max_memory_allocated())) / 2**30
