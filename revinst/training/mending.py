"""A training that mends itself: its ranks' heartbeats, and what becomes of the run when one has died or hangs."""

from datetime import UTC, datetime
from pathlib import Path

import lightning as L

from revinst.config.settings import Config
from revinst.data.batch import StepBatch
from revinst.launch.agent import Failure, Verdict
from revinst.launch.heartbeat import Heartbeat
from revinst.runs.checkpoints import newest_checkpoint
from revinst.runs.files import write_text
from revinst.runs.folder import Run
from revinst.training.module import InstructionModule


class Beats(L.Callback):
    """A heartbeat at the start and the end of each step of training and validation."""

    def __init__(self, heart: Heartbeat):
        self.heart = heart

    def on_train_batch_start(
        self, trainer: L.Trainer, module: InstructionModule, batch: StepBatch, batch_idx: int
    ) -> None:
        self.heart.beat(module.step, batch.ids)

    def on_train_batch_end(self, trainer: L.Trainer, module: InstructionModule, *_: object) -> None:
        self.heart.beat(module.step)

    def on_validation_batch_start(self, trainer: L.Trainer, module: InstructionModule, *_: object) -> None:
        self.heart.beat(module.step)

    def on_save_checkpoint(self, trainer: L.Trainer, module: InstructionModule, checkpoint: dict[str, object]) -> None:
        self.heart.rest(module.step)

    def on_fit_end(self, trainer: L.Trainer, module: InstructionModule) -> None:
        self.heart.rest(module.step)


class Mending:
    """What the agent asks when all ranks have ended because one failed: whether and how to start them again."""

    def __init__(self, config: Config):
        self.config, self.run = config, Run(Path(config.runs_dir) / config.run_name)
        self.steps: list[int | None] = []  # at which ranks were started again

    def __call__(self, failure: Failure) -> Verdict:
        for rank, stack in failure.stacks.items():
            write_text(self.run.path / "hangs" / f"step-{failure.step or 0:06d}-rank-{rank}.txt", stack)
        note = f"; where each rank stood is in {self.run.path / 'hangs'}" if failure.stacks else ""
        if len(self.steps) == self.config.launch.max_restarts:
            return Verdict(None, note)
        if failure.step in self.steps[-1:]:
            rows = f"; the step's rows: {', '.join(failure.rows)}" if failure.rows else ""
            return Verdict(None, f", as before, so it is not started again{note}{rows}")
        self.steps.append(failure.step)
        number = f"{len(self.steps)} of {self.config.launch.max_restarts}"
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "rank": failure.rank,
            "reason": failure.reason,
            "step": failure.step,
        }
        self.run.update_manifest(restarts=[*self.run.read_manifest().get("restarts", []), entry])
        return Verdict(self.resume_from(failure), f"; all ranks start again, {number}{note}")

    def resume_from(self, failure: Failure) -> list[str]:
        """Options that make the run go on, whatever `resume` was: from what it has itself saved since."""
        has_saved = failure.step is not None and newest_checkpoint(self.run.checkpoints) is not None
        return ["--resume", "auto"] if has_saved or self.config.resume == "never" else []
