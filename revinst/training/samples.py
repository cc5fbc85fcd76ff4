"""Instructions for a few validation texts, written while it trains."""

import sys
from collections.abc import Sequence
from functools import partial

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
        self.encoded: tuple[Sequence[Example], list[Prompt], list[list[int]]] | None = None

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

    def encode(self, data: InstructionDataModule) -> tuple[Sequence[Example], list[Prompt], list[list[int]]]:
        """Examples, prompts and prompt ids. Raises UserError when a row has no room for them."""
        settings = data.settings
        examples = data.examples_of("val")[: self.settings.count]
        prompts = [render_prompt(data.template, example, settings.context == "include") for example in examples]
        if settings.seq_len <= self.max_new_tokens:
            raise UserError(
                f"data.seq_len {settings.seq_len}: no room for samples of {self.max_new_tokens} tokens; raise it, or "
                "set samples.every_steps: 0"
            )
        ids, _ = encode_to_generate(
            prompts, data.template, data.tokenizer, settings.seq_len, self.max_new_tokens, cut=settings.cut
        )
        return examples, prompts, ids

    def show(self, trainer: L.Trainer, module: InstructionModule) -> None:
        """By the first rank alone; of a sharded model by all together, through layers put together for each pass."""
        sharded = is_sharded(module.network)
        if not (sharded or trainer.is_global_zero):
            return
        data = data_of(trainer)
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


def log_samples(loggers: Sequence[Logger], samples: Sequence[dict[str, str]], step: int) -> None:
    """To those loggers that take texts. samples: id, reference, prediction and what it was made from, of each."""
    for logger in loggers if samples else ():
        attempt(logger, partial(log_table, logger, samples, step))
