"""Checkpoints: adapter, optimizer, data position and RNG, nothing of the frozen base; saved between two steps."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L

from revinst.config.settings import CheckpointSettings
from revinst.config.words import GENERATED_METRICS
from revinst.data.batch import StepBatch
from revinst.errors import UserError
from revinst.model.adapter import adapter_config
from revinst.runs.checkpoints import AtomicCheckpointIO, mark_of, prune, read_mark, remove_leftovers, set_aside, worth
from revinst.runs.files import write_json
from revinst.runs.folder import Run
from revinst.runs.metrics import MetricsFile
from revinst.training.fingerprint import fingerprints
from revinst.training.module import InstructionModule, data_of
from revinst.training.optim import page_state
from revinst.training.rng import collect_rng, fold_in_rank, restore_rng
from revinst.training.stop import Stopped, StopSignals


@dataclass
class Place:
    """Where in Lightning's epochs a checkpoint stands: after `steps` steps of epoch `epoch`, counted from 0."""

    epoch: int = 0
    steps: int = 0
    is_epoch_end: bool = False
    val_due: bool = False  # validation belongs to this step and has not been run yet


class Checkpoints(L.Callback):
    """Saves at step boundaries, when due and when told to stop; keeps the last few and the best by `monitor`.

    Lightning's record of its own loops depends on the hook that a checkpoint was saved in, and on resuming skips the
    validation that was due. Here one `Place` is saved, and the loops' state is made from it.
    """

    def __init__(self, run: Run, settings: CheckpointSettings, config: str, metrics: MetricsFile, signals: StopSignals):
        self.run, self.settings, self.config = run, settings, config
        self.metrics, self.signals, self.io = metrics, signals, AtomicCheckpointIO()
        self.place, self.validated_step = Place(), -1
        self.rng: dict[str, Any] | None = None  # to restore, in a resumed run
        self.last_save = time.monotonic()

    # ---- going on ------------------------------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, module: InstructionModule, stage: str) -> None:
        """Each rank chose by the files that it sees; mixed choices would train, and hang or lie later."""
        path, data = trainer.ckpt_path, data_of(trainer)
        start = f"{Path(path).name} {read_mark(Path(path)).get('sha256', '')[:8]}".strip() if path else "the beginning"
        seen = module.gather_over_ranks((start, data.hashes["split"], len(data.train_rows)))
        precisions = set(module.gather_over_ranks(trainer.precision))
        if len(precisions) > 1:
            raise UserError(
                f"trainer.precision: the ranks' hardware chose different ones ({', '.join(sorted(precisions))}); give "
                "one that all can do"
            )
        if len(set(seen)) > 1:
            ranks = "; ".join(f"rank {rank} from {place}, data {data}" for rank, (place, *data) in enumerate(seen))
            raise UserError(
                f"{self.run.path}: the ranks would start from different places ({ranks[:500]}); runs_dir and "
                "data.source must be the same files on all machines"
            )

    def on_load_checkpoint(self, trainer: L.Trainer, module: InstructionModule, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["run"]
        self.place = Place(**{name: saved["place"][name] for name in vars(Place()) if name in saved["place"]})
        if not self.place.is_epoch_end:
            self.place.steps = steps_before(trainer)  # in steps of this run's size
        rank = trainer.global_rank
        self.rng = saved["rng"][rank] if rank < len(saved["rng"]) else None
        checkpoint["loops"] = {"fit_loop": loop_state(self.place, checkpoint["revinst"]["step"])}

    def on_fit_start(self, trainer: L.Trainer, module: InstructionModule) -> None:
        self.hashes = fingerprints(data_of(trainer), module.settings.base)  # the base is in the cache now
        if trainer.is_global_zero:
            remove_leftovers(self.run.checkpoints)

    def on_train_start(self, trainer: L.Trainer, module: InstructionModule) -> None:
        """Brings a resumed run to where it was: paging, the validation that was due, then the random state."""
        for optimizer in trainer.optimizers:
            page_state(optimizer)
        self.metrics.forget_after(module.step)
        steps = trainer.num_training_batches if self.place.is_epoch_end else self.place.steps
        module.start_at(int(self.place.epoch * trainer.num_training_batches + steps))
        if trainer.is_global_zero:
            set_aside(self.run.checkpoints, module.step)
        if self.place.val_due and "val_loss" in (mark := read_mark(self.path_of(module.step))):
            self.place.val_due = mark["val_loss"] is None
            self.validated_step = -1 if self.place.val_due else module.step
        if trainer.strategy.broadcast(self.place.val_due):
            run_validation(trainer)
        if self.rng is not None:
            restore_rng(self.rng)
        else:
            fold_in_rank(trainer.global_rank)
        self.last_save = time.monotonic()
        self.stop_at_length(trainer, module.step)

    # ---- saving ----------------------------------------------------------------------------------------------------

    def on_train_batch_end(
        self, trainer: L.Trainer, module: InstructionModule, outputs: None, batch: StepBatch, batch_idx: int
    ) -> None:
        self.stop_at_length(trainer, module.step)
        self.place = Place(trainer.current_epoch, batch_idx + 1, trainer.is_last_batch, validation_follows(trainer))
        # what one rank was told, all do
        stop, late = map(int, module.max_over_ranks([self.signals.received, self.is_late()]))
        if stop or late or self.is_due(trainer, module.step):
            self.log_row(trainer, module.step)
            self.save(trainer, module.step)
        if stop:
            raise Stopped(stop)

    def log_row(self, trainer: L.Trainer, step: int) -> None:
        """The step's row, which Lightning would log after this hook, when a kill may already have come."""
        if step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            logged = trainer._logger_connector.metrics["log"]  # `trainer.logged_metrics` keeps an old val/loss
            self.metrics.log_metrics({name: float(logged[name]) for name in logged if name != "step"}, step - 1)

    def on_validation_batch_end(self, trainer: L.Trainer, module: InstructionModule, *_: object) -> None:
        """A validation pass can be longer than the time between a warning and the kill."""
        stop = int(module.max_over_ranks(self.signals.received))
        if stop and trainer.state.fn == "fit":
            if not self.is_saved(trainer, module.step):
                self.save(trainer, module.step)
            raise Stopped(stop)

    def on_validation_epoch_end(self, trainer: L.Trainer, module: InstructionModule) -> None:
        """Texts take longer than a batch, and were left where they were when the signal came."""
        self.on_validation_batch_end(trainer, module)

    def on_validation_end(self, trainer: L.Trainer, module: InstructionModule) -> None:
        """Writes val/loss and scores to the step's mark; saves a checkpoint that is among the best."""
        loss = trainer.callback_metrics.get("val/loss")
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self.place.val_due, self.validated_step = False, module.step
        if loss is None:
            return
        mark = {"val_loss": float(loss) if math.isfinite(loss) else "not finite"} | scores_of(trainer)
        if worth(mark, monitor := self.settings.monitor) is None:
            value = float(trainer.callback_metrics.get(monitor, math.nan))
            module.print(f"step {module.step}: {monitor} is {value}; this step can't be the best")
        self.metrics.save()
        is_saved = self.is_saved(trainer, module.step)
        if not is_saved and self.is_best(trainer, mark):
            self.save(trainer, module.step)
            is_saved = True
        if is_saved and trainer.is_global_zero:
            path = self.path_of(module.step)
            write_json(mark_of(path), read_mark(path) | mark)
            self.prune()

    def on_train_end(self, trainer: L.Trainer, module: InstructionModule) -> None:
        """The finished adapter has a val/loss, wherever the last validation fell."""
        if trainer.enable_validation and self.validated_step != module.step:
            run_validation(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, module: InstructionModule, checkpoint: dict[str, Any]) -> None:
        """All that a later run needs to go on, or to refuse to."""
        checkpoint["run"] = {
            "config": self.config,
            "hashes": self.hashes,
            "place": vars(self.place).copy(),
            "is_due": self.is_due(trainer, module.step),
            "world_size": trainer.world_size,
            "rng": module.gather_over_ranks(collect_rng()),
            "adapter_config": plain(adapter_config(module.network.adapted).to_dict()),
        }

    def save(self, trainer: L.Trainer, step: int) -> None:
        """Rows of metrics.csv first: a checkpoint on disk vouches for every row before it."""
        self.metrics.save()
        trainer.save_checkpoint(self.path_of(step))
        if error := trainer.strategy.broadcast(self.io.error):
            raise UserError(error)
        self.last_save = time.monotonic()
        if trainer.is_global_zero:
            self.prune()

    def prune(self) -> None:
        settings = self.settings
        prune(self.run.checkpoints, settings.keep_last, settings.keep_best, settings.monitor, settings.final)

    def path_of(self, step: int) -> Path:
        return self.run.checkpoints / f"step-{step:06d}.ckpt"

    # ---- when ------------------------------------------------------------------------------------------------------

    def stop_at_length(self, trainer: L.Trainer, step: int) -> None:
        if 0 < trainer.max_steps <= step:
            trainer.should_stop = True  # Lightning's own count misses steps that were skipped

    def is_due(self, trainer: L.Trainer, step: int) -> bool:
        settings, epoch = self.settings, trainer.current_epoch + 1
        is_end = trainer.should_stop or (trainer.is_last_batch and epoch == trainer.max_epochs)
        by_steps = settings.every_steps and step % settings.every_steps == 0
        by_epochs = settings.every_epochs and trainer.is_last_batch and epoch % settings.every_epochs == 0
        return bool(is_end or by_steps or by_epochs)

    def is_late(self) -> int:
        minutes = self.settings.every_minutes
        return int(minutes is not None and time.monotonic() - self.last_save >= 60 * minutes)

    def is_saved(self, trainer: L.Trainer, step: int) -> bool:
        return trainer.strategy.broadcast(self.path_of(step).is_file())

    def is_best(self, trainer: L.Trainer, mark: Mapping[str, object]) -> bool:
        """mark: what a validation pass would add to this step's."""
        keep, monitor = self.settings.keep_best, self.settings.monitor
        value = worth(mark, monitor)
        known = [worth(read_mark(path), monitor) for path in self.run.checkpoints.glob("step-*.ckpt")]
        best = sorted((each for each in known if each is not None), reverse=True)[:keep]
        is_best = keep > 0 and value is not None and (len(best) < keep or value > best[-1])
        return trainer.strategy.broadcast(is_best)


def scores_of(trainer: L.Trainer) -> dict[str, float]:
    """Of the texts that this validation pass wrote."""
    logged = trainer.callback_metrics
    names = (f"val/{metric}" for metric in GENERATED_METRICS)
    return {name: float(logged[name]) for name in names if name in logged}


def validation_follows(trainer: L.Trainer) -> bool:
    """Whether Lightning validates after this step."""
    loop = trainer.fit_loop
    return bool(loop._data_fetcher is not None and loop.epoch_loop._should_check_val_fx(loop._data_fetcher))


def steps_before(trainer: L.Trainer) -> int:
    """Steps of the epoch that lie behind the data's position, in steps of this run's size: its length less the rest."""
    data = data_of(trainer)
    (position,) = data.state_dict().values()
    left = len(data.train_rows) - position % len(data.train_rows)
    return data.steps_per_epoch - math.ceil(left / data.settings.rows_per_step)


def run_validation(trainer: L.Trainer) -> None:
    """A validation pass as Lightning's loop runs it between two steps."""
    val_loop = trainer.fit_loop.epoch_loop.val_loop
    val_loop.restarting = False
    trainer.validating = True
    val_loop.run()
    trainer.training = True


def loop_state(place: Place, step: int) -> dict[str, Any]:
    """Lightning's state of its loops, as it would save it in `on_train_batch_end` of that step.

    The count of optimizer steps, which only `max_steps` reads, stays one short: a run that is at its length then
    enters the loop and ends in the ordinary way, with `on_train_end`, and is not skipped (lightning 2.6.6).
    """
    epochs = {"ready": place.epoch + 1, "started": place.epoch + 1, "processed": place.epoch, "completed": place.epoch}
    batches, total = ({"ready": n, "started": n, "processed": n, "completed": n - 1} for n in (place.steps, step))
    optimizer_steps = {"ready": step - 1, "completed": step - 1}
    return {
        "epoch_progress": {"total": epochs, "current": dict(epochs)},
        "epoch_loop.state_dict": {"_batches_that_stepped": step - 1},
        "epoch_loop.batch_progress": {"total": total, "current": batches, "is_last_batch": place.is_epoch_end},
        "epoch_loop.manual_optimization.optim_step_progress": {
            "total": optimizer_steps,
            "current": dict(optimizer_steps),
        },
    }


def plain(value: Any) -> Any:
    """JSON's types only, which `weights_only` loads and adapter_config.json holds."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [plain(item) for item in value]
        return sorted(items) if isinstance(value, set | frozenset) else items
    return value.value if hasattr(value, "value") else value
