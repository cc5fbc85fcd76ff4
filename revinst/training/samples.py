"""Instructions for a few validation texts, written while it trains."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import lightning as L
from lightning.pytorch.loggers import Logger
from rich.console import Console
from rich.table import Table
from rich.text import Text

from revinst.config.settings import SampleSettings
from revinst.data.batch import StepBatch
from revinst.data.datamodule import InstructionDataModule
from revinst.data.encoding import encode_to_generate
from revinst.data.examples import Example
from revinst.data.prompt import Prompt, render_prompt
from revinst.errors import UserError
from revinst.inference.engine.engine import GenerationSettings, generate_batches
from revinst.launch.heartbeat import Heartbeat
from revinst.model.sharding import is_sharded
from revinst.progress import as_written
from revinst.runs.loggers import attempt, log_table
from revinst.training.module import InstructionModule, data_of


class Samples(L.Callback):
    """Every N steps writes instructions for a few validation texts, beside their references."""

    def __init__(self, settings: SampleSettings, heart: Heartbeat | None = None, max_new_tokens: int = 64):
        self.settings, self.heart, self.max_new_tokens = settings, heart, max_new_tokens
        self.encoded: Encoded | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.encoded = None  # once a training: to find a few rows by their ids takes all of them

    def on_train_batch_end(
        self, trainer: L.Trainer, module: InstructionModule, outputs: None, batch: StepBatch, batch_idx: int
    ) -> None:
        if self.settings.every_steps and module.step % self.settings.every_steps == 0:
            if self.heart:
                self.heart.rest(module.step)  # many tokens one by one: no hang, neither here nor where others wait
            self.show(trainer, module)
            if self.heart:
                self.heart.beat(module.step)

    def encode(self, data: InstructionDataModule) -> "Encoded":
        """Raises UserError when a row has no room for them."""
        return encode_rows(data, data.examples_of("val")[: self.settings.count], self.max_new_tokens, "samples")

    def show(self, trainer: L.Trainer, module: InstructionModule) -> None:
        """By the first rank alone; of a sharded model by all together, through layers put together for each pass."""
        sharded = is_sharded(module.network)
        if not (sharded or trainer.is_global_zero):
            return
        data = data_of(trainer)
        rows = self.encoded = self.encoded or self.encode(data)
        settings = GenerationSettings(max_new_tokens=self.max_new_tokens, engine="hf" if sharded else "auto")
        made = list(generate_batches(module.network, data.tokenizer, rows.ids, settings, headers=data.template.headers))
        if not trainer.is_global_zero:
            return
        texts = [rows.describe(number, data.tokenizer.decode(generated.token_ids)) for number, generated in made]
        table = Table(rows.source, "reference", "prediction", title=f"step {module.step}", show_lines=True)
        for text in texts:
            table.add_row(*(clip(value) for name, value in text.items() if name != "id"))
        Console(file=sys.stdout).print(table)
        log_samples(trainer.loggers, texts, module.step)


class Encoded(NamedTuple):
    """Rows to write for: their prompts as ids. source: the field that these are made from."""

    source: str
    examples: Sequence[Example]
    prompts: list[Prompt]
    ids: list[list[int]]

    def describe(self, number: int, prediction: str) -> dict[str, str]:
        """A row's id, what its text was made from, reference and prediction."""
        example = self.examples[number]
        made_from = {self.source: getattr(example, self.source)}
        return {"id": example.id} | made_from | {"reference": self.prompts[number].target, "prediction": prediction}


def encode_rows(data: InstructionDataModule, examples: Sequence[Example], max_new_tokens: int, group: str) -> Encoded:
    """group: of the config, that asks for texts. Raises UserError when a row has no room for them."""
    settings, (source,) = data.settings, data.template.needs
    prompts = [render_prompt(data.template, example, settings.context == "include") for example in examples]
    if settings.seq_len <= max_new_tokens:
        raise UserError(
            f"data.seq_len {settings.seq_len}: no room for samples of {max_new_tokens} tokens; raise it, or set "
            f"{group}.every_steps: 0"
        )
    ids, _ = encode_to_generate(
        prompts, data.template, data.tokenizer, settings.seq_len, max_new_tokens, cut=settings.cut
    )
    return Encoded(source, examples, prompts, ids)


def clip(text: str, length: int = 200) -> Text:
    return as_written(text if len(text) <= length else text[: length - 1] + "…")


def log_samples(loggers: Sequence[Logger], samples: Sequence[dict[str, str]], step: int) -> None:
    """To those loggers that take texts. samples: id, reference, prediction and what it was made from, of each."""
    for logger in loggers if samples else ():
        attempt(logger, partial(log_table, logger, samples, step))
