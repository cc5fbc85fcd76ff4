"""What training leaves in the run folder: config, split and manifest, rows of bad steps, the adapter."""

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only

from revinst.config.settings import CheckpointSettings
from revinst.data.batch import StepBatch
from revinst.data.datamodule import InstructionDataModule
from revinst.data.example_table import list_sources
from revinst.data.redacted import find_unredacted
from revinst.data.split import read_split
from revinst.data.tokenizer_files import write_tokenizer
from revinst.model.adapter import adapter_state, save_adapter
from revinst.runs.checkpoints import choose_final, mean_state, read_mark, step_of
from revinst.runs.files import write_json, write_text
from revinst.runs.folder import Run
from revinst.runs.metrics import MetricsFile
from revinst.runs.versions import package_versions
from revinst.training.fingerprint import fingerprints
from revinst.training.module import InstructionModule, data_of
from revinst.training.throughput import peak_gib


class RunFolder(L.Callback):
    """Writes config, split and manifest at the start, rows of bad steps on the way, adapter and `completed` at the end.

    Nothing before `on_fit_start`: until then every rank looks at the folder to decide where to go on.
    """

    def __init__(self, run: Run, config: str, metrics: MetricsFile, checkpoint: CheckpointSettings):
        self.run, self.config, self.metrics, self.checkpoint = run, config, metrics, checkpoint

    @rank_zero_only
    def on_fit_start(self, trainer: L.Trainer, module: InstructionModule) -> None:
        data = data_of(trainer)
        contexts = data.examples_of("train").texts("context") if data.settings.context == "include" else []
        self.write_split(data)
        write_text(self.run.config, self.config)
        discarded = [*data.discarded, *data.train_documents.discarded, *data.val_documents.discarded]
        write_text(self.run.discarded, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in discarded))
        for choice, reason in data.reasons.items():
            module.print(f"{choice}: {reason}")
        self.run.update_manifest(
            completed=False,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=package_versions(),
            hardware=module.hardware.to_json(),
            reasons=module.reasons | data.reasons,
            world_size=trainer.world_size,
            seed=data.seed,
            base=module.settings.base,
            hashes=fingerprints(data, module.settings.base),
            data={
                "source": data.settings.source,
                "train": len(data.split.train),
                "val": len(data.split.val),
                "heldout": len(data.split.heldout),
                "discarded": len(discarded),
                "truncated": data.train_documents.truncated,
                "with_context": sum(map(bool, contexts)),  # of the training rows
                "unredacted": find_unredacted(name for name, _ in list_sources(data.settings.source)),
            },
        )

    def write_split(self, data: InstructionDataModule) -> None:
        """The split of the run; one that another split replaces (--resume_force) is kept beside it."""
        if self.run.split.is_file():
            if read_split(self.run.split).hash == data.hashes["split"]:
                return
            number = len(list(self.run.path.glob("split-before-*.json"))) + 1
            self.run.split.rename(self.run.path / f"split-before-{number}.json")
        write_json(self.run.split, data.split.to_json())

    def on_train_batch_end(
        self, trainer: L.Trainer, module: InstructionModule, outputs: None, batch: StepBatch, batch_idx: int
    ) -> None:
        """A loss spike can be traced to its rows: their place in the data's order, and the ids of bad ones."""
        (position,) = data_of(trainer).state_dict().values()
        module.log_numbers({"data/position": position})
        self.write_bad_rows(module.take_bad_rows())

    def on_exception(self, trainer: L.Trainer, module: InstructionModule, exception: BaseException) -> None:
        self.write_bad_rows(module.take_bad_rows())

    @rank_zero_only
    def write_bad_rows(self, bad_rows: dict[int, list[str]]) -> None:
        for step, ids in bad_rows.items():
            words = [re.sub(r"\s+", "_", row_id) for row_id in ids]  # also: csv would not quote a lone \r
            self.metrics.add(step, {"bad_rows": " ".join(words)})

    def on_fit_end(self, trainer: L.Trainer, module: InstructionModule) -> None:
        state = adapter_state(module.network.adapted)  # all ranks together: a sharded adapter is gathered
        peak = peak_gib(module) if torch.cuda.is_available() else None
        if trainer.is_global_zero:
            self.finish(trainer, module, state, peak)

    def finish(
        self, trainer: L.Trainer, module: InstructionModule, state: dict[str, torch.Tensor], peak: float | None
    ) -> None:
        data = data_of(trainer)
        epochs = data.state_dict()["next_row"] / len(data.train_rows)  # how often all rows were seen
        if trainer.limit_train_batches != 1.0:
            epochs = trainer.current_epoch  # cut short on purpose
        write_beside = partial(write_tokenizer, data.tokenizer, add_bos=not data.template.has_bos)
        val_loss, settings = self.metrics.value("val/loss", module.step - 1), self.checkpoint
        taken = choose_final(self.run.checkpoints, settings.final, settings.keep_last, settings.monitor)
        if taken:
            state = mean_state(taken)
            val_loss = read_mark(taken[0])["val_loss"] if len(taken) == 1 else None  # a mean has not been validated
            steps = ", ".join(str(step_of(path)) for path in taken)
            module.print(f"adapter: {settings.final} (checkpoint.final), of step {steps}")
        elif settings.final != "last":
            why = f"with a {settings.monitor} that is a number" if settings.final == "best" else "that was due"
            module.print(
                f"adapter: of the last step; no checkpoint {why} is left for checkpoint.final {settings.final}"
            )
        save_adapter(module.network.adapted, self.run.adapter, write_beside, state)
        self.metrics.save()
        self.run.update_manifest(
            completed=True,
            steps=module.step,
            adapter_steps=[step_of(path) for path in taken] or [module.step],
            epochs=epochs,
            val_loss=val_loss,
            peak_gib=peak,
        )
