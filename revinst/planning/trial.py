"""Real steps of a config, timed: what `revinst plan --measure` sets beside its figures."""

import tempfile
import time
from typing import Any

import lightning as L
import torch

from revinst.data.batch import StepBatch
from revinst.data.datamodule import InstructionDataModule
from revinst.system import peak_bytes
from revinst.training.module import InstructionModule


class StepClock(L.Callback):
    """Seconds and tokens of the last step; the first one also warms up kernels and allocators."""

    seconds, tokens = 0.0, 0

    def on_train_batch_start(self, *_: object) -> None:
        self.since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: None, batch: StepBatch, batch_idx: int
    ) -> None:
        self.seconds, self.tokens = time.perf_counter() - self.since, batch.num_tokens * trainer.world_size


def measure_step(module: InstructionModule, data: InstructionDataModule, **options: Any) -> dict[str, float]:
    """Takes two steps; tokens, seconds and tokens/s of the second, and the peak of memory. Leaves no files.

    options: of the Trainer (accelerator, devices, precision).
    """
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_steps=2,
            max_epochs=-1,
            logger=False,
            callbacks=[clock],
            limit_val_batches=0,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
            **options,
        )
        trainer.fit(module, datamodule=data)
    on_gpu = module.hardware.device.startswith("cuda")
    peak = torch.cuda.max_memory_allocated() if on_gpu else peak_bytes()
    return {
        "step_tokens": clock.tokens,
        "step_s": round(clock.seconds, 3),
        "tokens_per_s": round(clock.tokens / clock.seconds, 1),
        "peak_gib": round(peak / 2**30, 2),
    }
