"""What a run shows and leaves behind: progress, throughput, sample generations, the run folder."""

import json
import math
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table
from rich.text import Text

import revinst
from revinst.data.datamodule import InstructionDataModule
from revinst.data.encoding import encode_to_generate
from revinst.data.examples import Example
from revinst.data.prompt import Prompt, render_prompt
from revinst.data.split import read_split
from revinst.errors import UserError
from revinst.generation.engine import GenerationSettings, generate_batches
from revinst.model.lora import adapter_state, is_sharded, save_adapter
from revinst.progress import Stage, as_written, in_words, write
from revinst.run import Run, write_json, write_text
from revinst.training.fingerprint import fingerprints
from revinst.training.loggers import MetricsFile, log_samples
from revinst.training.metrics import Sum


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

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        if trainer.is_global_zero:
            self.first_step = module.step
            self.training = Steps("training", count_steps(trainer, module), done=module.step, bar=not self.beside_bar)
            self.training.details = lambda: metric_in_words(trainer, "train/loss", "loss")
            self.training.__enter__()

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
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

    def on_validation_start(self, trainer: L.Trainer, module: Any) -> None:
        if trainer.is_global_zero:
            batches = sum(int(count) for count in trainer.num_val_batches if math.isfinite(count))
            self.validation = Stage("validation", batches, "batches", brief=True, bar=not self.beside_bar)
            self.validation.details = lambda: metric_in_words(trainer, "val/loss")
            self.validation.__enter__()

    def on_validation_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        if self.validation is not None:
            self.validation.advance()

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        if self.validation is not None:
            self.validation.end()
            if self.training is not None:
                self.training.skip_time(time.monotonic() - self.validation.started)
            self.validation = None

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        self.end(is_whole=True)

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        self.end(is_whole=False)

    def end(self, is_whole: bool) -> None:
        for stage in (self.validation, self.training):
            if stage is not None:
                stage.end(is_whole)
        self.validation = self.training = None


class Steps(Stage):
    """`step 12 of 34`"""

    def count(self) -> str:
        return f"step {self.done:,}" + (f" of {self.total:,}" if self.total else "")


def count_steps(trainer: L.Trainer, module: Any) -> int | None:
    """Optimizer steps at the end of the run, by our count; None for a run without a limit."""
    by_steps = trainer.max_steps if trainer.max_steps > 0 else math.inf
    epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else math.inf
    total = min(by_steps, epochs * trainer.num_training_batches + module.extra_steps)
    return int(total) if math.isfinite(total) else None


def metric_in_words(trainer: L.Trainer, name: str, title: str = "") -> str:
    value = trainer.callback_metrics.get(name)
    return "" if value is None else f"{title or name} {float(value):.3f}"


class Throughput(L.Callback):
    """Logs tokens/s of all ranks over the last logging interval, and the peak of GPU memory on the fullest rank."""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.all_tokens = Sum(trainer.strategy.root_device)
        self.tokens, self.since = 0, time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
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


def peak_gib(module: Any) -> float:
    """Of memory on the GPU of the rank that needed most; a collective."""
    return float(module.max_over_ranks(torch.cuda.max_memory_allocated())) / 2**30


class Samples(L.Callback):
    """Every N steps writes instructions for a few validation texts, beside their references."""

    def __init__(self, every_steps: int = 200, count: int = 3, max_new_tokens: int = 64):
        if every_steps < 0:
            raise UserError(f"samples.every_steps {every_steps}: must be at least 0 (0: none)")
        if every_steps and count < 1:
            raise UserError(f"samples.count {count}: must be at least 1; for no samples, samples.every_steps: 0")
        self.every_steps, self.count, self.max_new_tokens = every_steps, count, max_new_tokens
        self.encoded: tuple[Sequence[Example], list[Prompt], list[list[int]]] | None = None

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self.encoded = None  # once a training: to find a few rows by their ids takes all of them

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.every_steps and module.step % self.every_steps == 0:
            self.show(trainer, module)

    def encode(self, data: InstructionDataModule) -> tuple[Sequence[Example], list[Prompt], list[list[int]]]:
        """Examples, prompts and prompt ids. Raises UserError when a row has no room for them."""
        examples = data.examples_of("val")[: self.count]
        prompts = [render_prompt(data.template, example, data.context == "include") for example in examples]
        if data.seq_len <= self.max_new_tokens:
            raise UserError(
                f"data.seq_len {data.seq_len}: no room for samples of {self.max_new_tokens} tokens; raise it, or set "
                "samples.every_steps: 0"
            )
        ids, _ = encode_to_generate(
            prompts, data.template, data.tokenizer, data.seq_len, self.max_new_tokens, cut=data.cut
        )
        return examples, prompts, ids

    def show(self, trainer: L.Trainer, module: Any) -> None:
        """By the first rank alone; of a sharded model by all together, through layers put together for each forward."""
        sharded = is_sharded(module.network)
        if not (sharded or trainer.is_global_zero):
            return
        data: InstructionDataModule = trainer.datamodule  # type: ignore[attr-defined]
        examples, prompts, ids = self.encoded = self.encoded or self.encode(data)
        settings = GenerationSettings(max_new_tokens=self.max_new_tokens, engine="hf" if sharded else "auto")
        made = list(generate_batches(module.network, data.tokenizer, ids, settings, headers=data.template.headers))
        if not trainer.is_global_zero:
            return
        (source,) = data.template.needs
        table = Table(source, "reference", "prediction", title=f"step {module.step}", show_lines=True)
        texts = []
        for number, generated in made:
            example, prompt = examples[number], prompts[number]
            prediction = data.tokenizer.decode(generated.token_ids)
            shown = {source: getattr(example, source), "reference": prompt.target, "prediction": prediction}
            table.add_row(*map(clip, shown.values()))
            texts.append({"id": example.id} | shown)
        Console(file=sys.stdout).print(table)
        log_samples(trainer.loggers, texts, module.step)


def clip(text: str, length: int = 200) -> Text:
    return as_written(text if len(text) <= length else text[: length - 1] + "…")


class RunFolder(L.Callback):
    """Writes config, split and manifest at the start, rows of bad steps on the way, adapter and `completed` at the end.

    Nothing before `on_fit_start`: until then every rank looks at the folder to decide where to go on.
    """

    def __init__(self, run: Run, config: str, metrics: MetricsFile):
        self.run, self.config, self.metrics = run, config, metrics

    @rank_zero_only
    def on_fit_start(self, trainer: L.Trainer, module: Any) -> None:
        data: InstructionDataModule = trainer.datamodule  # type: ignore[attr-defined]
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
            base=module.base,
            hashes=fingerprints(data, module.base),
            data={
                "source": data.source,
                "train": len(data.split.train),
                "val": len(data.split.val),
                "heldout": len(data.split.heldout),
                "discarded": len(discarded),
                "truncated": data.train_documents.truncated,
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

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A loss spike can be traced to its rows: their place in the data's order, and the ids of bad ones."""
        (position,) = trainer.datamodule.state_dict().values()  # type: ignore[attr-defined]
        module.log_numbers({"data/position": position})
        self.write_bad_rows(module)

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        self.write_bad_rows(module)

    @rank_zero_only
    def write_bad_rows(self, module: Any) -> None:
        for step, ids in module.bad_rows.items():
            words = [re.sub(r"\s+", "_", row_id) for row_id in ids]  # also: csv would not quote a lone \r
            self.metrics.add(step, {"bad_rows": " ".join(words)})
        module.bad_rows.clear()

    def on_fit_end(self, trainer: L.Trainer, module: Any) -> None:
        state = adapter_state(module.network.model)  # all ranks together: a sharded adapter is gathered
        peak = peak_gib(module) if torch.cuda.is_available() else None
        if trainer.is_global_zero:
            self.finish(trainer, module, state, peak)

    def finish(self, trainer: L.Trainer, module: Any, state: dict[str, torch.Tensor], peak: float | None) -> None:
        data: InstructionDataModule = trainer.datamodule  # type: ignore[attr-defined]
        epochs = data.state_dict()["next_row"] / len(data.train_rows)  # how often all rows were seen
        if trainer.limit_train_batches != 1.0:
            epochs = trainer.current_epoch  # cut short on purpose
        save_adapter(module.network.model, self.run.adapter, data.tokenizer.hf, state)
        self.metrics.save()
        self.run.update_manifest(
            completed=True,
            steps=module.step,
            epochs=epochs,
            val_loss=self.metrics.value("val/loss", module.step - 1),
            peak_gib=peak,
        )


def package_versions() -> dict[str, str]:
    names = ("torch", "lightning", "transformers", "peft", "bitsandbytes", "datasets", "torchmetrics")
    return {"revinst": revinst.__version__, "python": sys.version.split()[0]} | {
        name: version_of(name) for name in names
    }


def version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
