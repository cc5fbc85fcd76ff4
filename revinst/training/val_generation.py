"""Instructions for a fixed part of the validation rows, written and scored in every validation pass."""

import gc
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import lightning as L
import numpy as np
import torch

from revinst.config.settings import Config, ValGenerationSettings
from revinst.config.words import GENERATED_METRICS
from revinst.data.datamodule import InstructionDataModule
from revinst.errors import UserError
from revinst.evaluation.while_training import choose_decoding
from revinst.inference.engine.engine import Engine, GenerationSettings
from revinst.inference.picks import PickSettings
from revinst.inference.samples import Written, pick_all
from revinst.inference.writing import write_samples
from revinst.launch.heartbeat import Heartbeat
from revinst.model.sharding import is_sharded
from revinst.progress import Stage
from revinst.training.module import InstructionModule, data_of
from revinst.training.samples import Encoded, encode_rows, log_samples
from revinst.training.stop import StopSignals
from revinst.training.text_scores import TextScores

NAMES = tuple(f"val/{metric}" for metric in GENERATED_METRICS)
SHOWN = ("rougeL", "rougeL_unicode", "chrf")


class ValGeneration(L.Callback):
    """Ranks share the rows; of a sharded model all write all of them together, and each scores its share.

    What the decoder holds (its weights, the cache) is taken from memory that is free between two steps, and given back.
    """

    def __init__(self, settings: ValGenerationSettings, signals: StopSignals, heart: Heartbeat):
        self.settings, self.signals, self.heart = settings, signals, heart
        self.encoded: Encoded | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.encoded = None

    def on_validation_epoch_end(self, trainer: L.Trainer, module: InstructionModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        data = data_of(trainer)
        rows = self.encoded = self.encoded or draw_rows(data, self.settings.rows)
        mine = list(range(len(rows.ids)))[trainer.global_rank :: trainer.world_size]
        device = trainer.strategy.root_device
        settings, picks = choose_decoding(self.settings, new_tokens(data))
        try:
            with torch.inference_mode(False):  # of the validation loop; what layers keep is for training too
                written = self.write(module, rows, mine, picks, settings)
        finally:
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
        if module.max_over_ranks(self.signals.received):
            return  # `Checkpoints`, which comes next, saves and stops; the pass is due again
        taken = pick_all([written[number] for number in mine], picks, list)
        texts = [rows.describe(number, each.taken.text) for number, each in zip(mine, taken, strict=True)]
        scores = TextScores(device)
        scores.update([text["prediction"] for text in texts], [text["reference"] for text in texts])
        self.report(trainer, module, scores, texts)

    def write(
        self,
        module: InstructionModule,
        rows: Encoded,
        mine: Sequence[int],
        picks: PickSettings,
        settings: GenerationSettings,
    ) -> dict[int, Written]:
        """Number of the row -> its texts; not of all when a signal came, which a sharded model's ranks must not heed
        one by one.
        """
        data, sharded = data_of(module.trainer), is_sharded(module.network)
        if sharded:
            mine, settings = range(len(rows.ids)), replace(settings, engine="hf")
        found: dict[int, Written] = {}
        with Stage("validation, texts", len(mine) * picks.samples, "texts", brief=True, bar=False) as stage:

            def on_text(count: int, tokens: int) -> None:
                self.heart.rest(module.step)  # many tokens one by one: no hang, neither here nor where others wait
                stage.advance(count, tokens)

            engine = Engine(module.network, data.tokenizer, settings, data.template.headers)
            prompts = [rows.ids[number] for number in mine]
            on_text(0, 0)
            with closing(write_samples(engine, prompts, picks.samples, False, on_text)) as writing:
                for place, written in writing:
                    found[mine[place]] = written
                    if self.signals.received and not sharded:
                        break
        return found

    def report(
        self, trainer: L.Trainer, module: InstructionModule, scores: TextScores, texts: Sequence[dict[str, str]]
    ) -> None:
        """Scores to all that is logged to, texts to those that take some. texts: of this rank's rows."""
        means = {metric: float(mean) for metric, mean in scores.compute().items()}
        module.log_numbers({f"val/{metric}": mean for metric, mean in means.items()})
        shown = ", ".join(f"val/{metric} {means[metric]:.3f}" for metric in SHOWN if metric in means)
        all_texts = [text for part in module.gather_over_ranks(texts) for text in part]
        module.print(f"step {module.step}: {shown or 'no score'} of {len(all_texts)} validation rows")
        if trainer.is_global_zero:
            log_samples(trainer.loggers, all_texts, module.step)


def new_tokens(data: InstructionDataModule) -> int:
    return data.template.new_tokens(data.settings.seq_len)


def draw_rows(data: InstructionDataModule, count: int) -> Encoded:
    """The same of each run with this seed and split, in the split's order. Raises UserError where there are none."""
    examples = data.examples_of("val")
    if not len(examples):
        raise UserError("val_generation.every_steps: there are no validation rows; raise data.val_fraction")
    numbers = sorted(np.random.default_rng(data.seed).permutation(len(examples))[:count].tolist())
    return encode_rows(data, [examples[number] for number in numbers], new_tokens(data), "val_generation")


def check_val_generation(trainer: L.Trainer, settings: ValGenerationSettings, data: InstructionDataModule) -> None:
    """Raises UserError for what only the data or the Trainer can tell to be wrong."""
    draw_rows(data, settings.rows)
    if not trainer.limit_val_batches:
        raise UserError("trainer.limit_val_batches 0: val_generation writes in validation passes; leave it out")


def validation_interval(config: Config) -> dict[str, int | None]:
    """The Trainer's options for a pass every so many steps; none without texts."""
    steps, asked = config.val_generation.every_steps, config.trainer.val_check_interval
    if not steps:
        return {}
    if asked not in (None, steps):
        raise UserError(
            f"trainer.val_check_interval {asked}: val_generation.every_steps {steps} says when; leave one of them out"
        )
    return {"val_check_interval": steps, "check_val_every_n_epoch": None}


def check_monitors(callbacks: Sequence[L.Callback], config: Config) -> None:
    """Raises UserError for a callback that would wait for a score that nobody takes, or take the worst for the best."""
    for callback in callbacks:
        monitor, name = getattr(callback, "monitor", None), type(callback).__name__
        if monitor in NAMES and not config.val_generation.every_steps:
            raise UserError(f"{name} on {monitor}: no texts are scored; set val_generation.every_steps")
        if monitor in NAMES and getattr(callback, "mode", "max") == "min":
            raise UserError(f"{name} on {monitor}: it is better when higher; give init_args: {{mode: max}}")
