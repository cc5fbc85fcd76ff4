"""Checkpoints: adapter, optimizer, data position and RNG, nothing of the frozen base; written atomically."""

import os
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.plugins.io import CheckpointIO

from revinst.errors import UserError
from revinst.run import Run

STEP_FILE = re.compile(r"step-(\d+)\.ckpt")


@dataclass(frozen=True)
class CheckpointSettings:
    """When to save, and what to keep.

    Attributes:
        every_steps: optimizer steps between checkpoints.
        every_epochs: epochs between checkpoints.
        every_minutes: minutes between checkpoints, at most.
        keep_last: newest checkpoints that are kept.
        keep_best: checkpoints with the lowest val/loss that are kept besides.
    """

    every_steps: int | None = 200
    every_epochs: int | None = None
    every_minutes: float | None = 30
    keep_last: int = 3
    keep_best: int = 1

    def __post_init__(self):
        if self.keep_last < 1 or self.keep_best < 0:
            raise UserError("checkpoint: keep_last must be at least 1 and keep_best at least 0")


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the target, flushes to disk, then renames: a full disk or a kill leaves the old file whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except (OSError, RuntimeError) as error:  # torch's zip writer reports a full disk as RuntimeError
            raise UserError(
                f"{path}: the checkpoint can't be written ({error}); free some space and run the same command again, "
                "it goes on from the checkpoint before"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: Any = True) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def newest_checkpoint(run: Run) -> Path | None:
    """The newest checkpoint that loads; torn ones are skipped with a word."""
    for path in sorted(run.checkpoints.glob("step-*.ckpt"), reverse=True):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            if "revinst" in content:
                return path
            reason = "not written by revinst"
        except Exception as error:  # a torn zip or pickle fails in many ways
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        print(f"{path}: skipped ({reason})")
    return None


class Checkpoints(L.Callback):
    """Saves at step boundaries; keeps the last few and the best by val/loss."""

    def __init__(self, run: Run, settings: CheckpointSettings):
        self.run, self.settings = run, settings
        self.scores: dict[str, float] = {}  # file name -> val/loss
        self.rng: dict[str, Any] | None = None  # to restore, in a resumed run
        self.last_save = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.last_save = time.monotonic()
        if self.rng is not None:
            restore_rng(self.rng)

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        settings, step = self.settings, module.step
        if 0 < trainer.max_steps <= step:
            trainer.should_stop = True  # Lightning's own count misses steps that were skipped
        due = settings.every_steps and step % settings.every_steps == 0
        if settings.every_epochs and trainer.is_last_batch:
            due = due or (trainer.current_epoch + 1) % settings.every_epochs == 0
        if settings.every_minutes:
            late = time.monotonic() - self.last_save >= 60 * settings.every_minutes
            due = due or trainer.strategy.broadcast(late)
        if due:
            self.save(trainer, step)

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """Saves a checkpoint that is among the best."""
        loss = trainer.callback_metrics.get("val/loss")
        if trainer.sanity_checking or trainer.state.fn != "fit" or loss is None or not self.settings.keep_best:
            return
        best = sorted(self.scores.values())[: self.settings.keep_best]
        if len(best) < self.settings.keep_best or float(loss) < best[-1]:
            self.scores[self.path_of(module.step).name] = float(loss)
            self.save(trainer, module.step)

    def save(self, trainer: L.Trainer, step: int) -> None:
        trainer.save_checkpoint(self.path_of(step))
        self.last_save = time.monotonic()
        if trainer.is_global_zero:
            self.prune()

    def path_of(self, step: int) -> Path:
        return self.run.checkpoints / f"step-{step:06d}.ckpt"

    def prune(self) -> None:
        files = sorted(self.run.checkpoints.glob("step-*.ckpt"))
        best = sorted(self.scores, key=lambda name: self.scores[name])[: self.settings.keep_best]
        for path in files[: -self.settings.keep_last]:
            if path.name not in best:
                path.unlink()

    def state_dict(self) -> dict[str, Any]:
        return {"scores": self.scores, "rng": collect_rng()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scores = dict(state["scores"])
        self.rng = state["rng"]


def collect_rng() -> dict[str, Any]:
    """States of the generators that training draws from; plain types and tensors, so that loading runs no code."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.array(keys, dtype=np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
