"""What a config says, typed: one dataclass a group, read by the YAML, by plain Python and by `revinst plan`.

The words that a field takes are in `words.py`; here are the bounds of numbers. Both are checked whoever makes one.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from revinst.config.words import check_words
from revinst.errors import UserError

LARGEST = 2**20  # tokens of a row, rows of a step: beyond it only memory runs out


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which texts, how they become prompts and targets, and how these are packed into steps."""

    source: str | dict[str, Any] | list[str | dict[str, Any]] = "databricks/databricks-dolly-15k"
    """quickstart, a hub id, a file, a folder, or a list of them; `{source: FILE, weight: 2}` in place of a name trains
    the rows of FILE twice an epoch (a weight below 1: that share of them)."""
    columns: dict[str, str] | None = None
    """our field -> the source's column, where they differ; COLUMN.ROLE is what a role says in a list of messages, as in
    `{instruction: messages.user, response: messages.assistant}`."""
    template: str = "blog"
    """the prompt: blog (headed sections), alpaca, chat (the base's own), forward (from an instruction to its text),
    blog.LANGUAGE (a translation, such as blog.zh), or the path of a template file."""
    context: str = "drop"
    """of a row, if it has one: drop (leave it out of the prompt), include, or exclude_rows (leave such rows out)."""
    strip_citations: bool = False
    """remove marks such as [12] from responses and contexts."""
    supervise: str = "target"
    """tokens that are learnt: target (what the model shall write, and EOS) or all (the prompt's too)."""
    seq_len: int = 2048
    """tokens in a packed row."""
    cut: str = "end"
    """where a response too long for its row is cut: end, or middle (its head and its tail stay)."""
    packing: str = "best_fit"
    """of documents into rows: best_fit (whole, none sees another), joined (one stream, cut at row ends) or none (one
    document a row)."""
    heldout_fraction: float = 0.1
    """share of rows, in [0, 1), that `revinst evaluate` scores; nothing is trained on or chosen by them."""
    val_fraction: float = 0.05
    """share of rows, in [0, 1), for val/loss, samples while it trains, and whatever is chosen."""
    split: str | None = None
    """the split.json of another run, used as it is; null: split by the fractions."""
    rows_per_step: int = 8
    """packed rows in one optimizer step, over all ranks; with another number the model learns otherwise."""
    micro_batch_size: int | str = "auto"
    """rows in one forward: a number, or auto (as many as fit in this machine's memory); the step stays the same."""
    on_bad_row: str = "stop"
    """stop, or skip (and count)."""

    def __post_init__(self) -> None:
        check_words("data.", self)
        if isinstance(self.micro_batch_size, str) and self.micro_batch_size != "auto":
            raise UserError(f"data.micro_batch_size {self.micro_batch_size!r}: a number of rows, or auto")
        for name in ("seq_len", "rows_per_step", "micro_batch_size"):
            count = getattr(self, name)
            if count != "auto" and not 1 <= count <= LARGEST:
                raise UserError(f"data.{name} {count}: must be at least 1, and at most {LARGEST:,}")


@dataclass(frozen=True)
class LoraSettings:
    """LoRA (https://arxiv.org/abs/2106.09685)."""

    r: int = 64
    """rank of the adapter's matrices."""
    alpha: int = 16
    """the update is scaled by alpha / r."""
    dropout: float = 0.1
    """on the adapter's input, in [0, 1)."""
    target_modules: str | list[str] = "all-linear"
    """all-linear (every linear layer but the head), a list such as [q_proj, v_proj], or a regular expression that
    matches whole names."""

    def __post_init__(self) -> None:
        if self.r < 1 or not 0 <= self.dropout < 1:
            raise UserError(f"model.lora: r {self.r} must be at least 1 and dropout {self.dropout} in [0, 1)")
        if self.alpha <= 0:
            raise UserError(
                f"model.lora: alpha {self.alpha} must be above 0; the adapter's output is scaled by alpha / r"
            )


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The base and its adapter, how they are computed and how the adapter is trained."""

    base: str = "NousResearch/Llama-2-7b-hf"
    """hub id or folder of the base model."""
    quantization: str = "nf4"
    """of the base: nf4 (its weights in 4 bits) or none."""
    attention: str = "auto"
    """the kernel: auto (the fastest that fits), flash, varlen, sdpa or eager."""
    kernels: str = "auto"
    """auto, fused or plain; auto fuses decoder layers on CUDA where it can."""
    base_gemm: str = "auto"
    """the frozen base's products in fused layers: bf16 (in 16 bits), fp8_backward (the gradient of the input in e4m3),
    fp8 (forward too), from compute capability 8.9 on, or auto."""
    activation_memory_gib: float | str = 0
    """GiB for activations that are kept for the backward pass; 0 recomputes every layer, which takes least memory and
    more time; auto takes what is free."""
    lora: LoraSettings = field(default_factory=LoraSettings)
    """rank, alpha, dropout and target modules of the adapter."""
    optimizer: str = "paged_adamw_32bit"
    """paged_adamw_32bit, paged_adamw_8bit or adamw."""
    weight_decay: float = 0.0
    """decoupled, on adapter weights."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's, each in [0, 1)."""
    lr: float = 2e-4
    """peak learning rate."""
    lr_schedule: str = "constant"
    """constant, linear or cosine."""
    warmup_frac: float = 0.03
    """share of all steps in which the lr rises, in [0, 1]."""
    max_grad_norm: float = 0.3
    """gradients are scaled down to this norm."""
    max_bad_steps: int = 3
    """so many steps with a non-finite loss or gradient in a row stop the run."""

    def __post_init__(self) -> None:
        check_words("model.", self)
        if isinstance(self.activation_memory_gib, str) and self.activation_memory_gib != "auto":
            raise UserError(f"model.activation_memory_gib {self.activation_memory_gib!r}: a number of GiB, or auto")
        betas = list(self.betas)
        checks = {  # not a number fails every comparison
            "lr": (0 < self.lr < math.inf, "above 0"),
            "betas": (len(betas) == 2 and all(0 <= beta < 1 for beta in betas), "two numbers in [0, 1)"),
            "weight_decay": (self.weight_decay >= 0, "at least 0"),
            "warmup_frac": (0 <= self.warmup_frac <= 1, "in [0, 1]"),
            "max_grad_norm": (self.max_grad_norm > 0, "above 0"),
            "max_bad_steps": (self.max_bad_steps >= 1, "at least 1"),
        }
        for name, (is_right, range_) in checks.items():
            if not is_right:
                value = betas if name == "betas" else getattr(self, name)
                raise UserError(f"model.{name} {value}: must be {range_}")


@dataclass(frozen=True)
class CheckpointSettings:
    """When to save, and what to keep. The last step is always saved."""

    every_steps: int | None = 200
    """optimizer steps between checkpoints; null: none by steps."""
    every_epochs: int | None = None
    """epochs between checkpoints; null: none by epochs."""
    every_minutes: float | None = 30
    """minutes between checkpoints, at most; null: none by the clock."""
    keep_last: int = 3
    """newest checkpoints that are kept."""
    keep_best: int = 1
    """checkpoints with the best `monitor` that are kept besides."""
    monitor: str = "val/loss"
    """the number of a validation pass that decides which are best: val/loss (the lowest), or with val_generation one of
    its texts' scores (the highest), as val/rougeL."""
    final: str = "last"
    """what adapter/ holds at the end: last (of the last step), best (of the checkpoint that is best by `monitor`), or
    mean (each tensor's mean over the `keep_last` newest checkpoints of those due by steps or epochs, and the last)."""

    def __post_init__(self) -> None:
        check_words("checkpoint.", self)
        if self.keep_last < 1 or self.keep_best < 0:
            raise UserError("checkpoint: keep_last must be at least 1 and keep_best at least 0")
        if (self.final == "best" and not self.keep_best) or (self.final == "mean" and self.keep_last < 2):
            least = "keep_best: 1" if self.final == "best" else "keep_last: 2"
            raise UserError(f"checkpoint.final {self.final}: needs checkpoint.{least}, or more")
        if self.final == "mean" and self.every_steps is None and self.every_epochs is None:
            raise UserError("checkpoint.final mean: needs checkpoint.every_steps, or every_epochs")
        for name in ("every_steps", "every_epochs", "every_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"checkpoint.{name} {value}: must be above 0, or null for none")


@dataclass(frozen=True)
class SampleSettings:
    """Instructions for a few validation texts, written while it trains."""

    every_steps: int = 200
    """optimizer steps from samples to samples; 0: none."""
    count: int = 3
    """validation rows that they are written for."""

    def __post_init__(self) -> None:
        if self.every_steps < 0:
            raise UserError(f"samples.every_steps {self.every_steps}: must be at least 0 (0: none)")
        if self.every_steps and self.count < 1:
            raise UserError(f"samples.count {self.count}: must be at least 1; for no samples, samples.every_steps: 0")


@dataclass(frozen=True)
class ValGenerationSettings:
    """Instructions for a fixed part of the validation rows, written and scored in every validation pass."""

    every_steps: int = 0
    """optimizer steps between validation passes, which then write and score texts; 0: none are written."""
    rows: int = 200
    """validation rows that are written for, drawn by the seed, at most."""
    samples: int = 1
    """texts a row: 1 is the greedy one; of more the consensus is scored."""

    def __post_init__(self) -> None:
        if self.every_steps < 0:
            raise UserError(f"val_generation.every_steps {self.every_steps}: must be at least 0 (0: none)")
        for name in ("rows", "samples"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"val_generation.{name} {getattr(self, name)}: must be at least 1; for no texts, "
                    "val_generation.every_steps: 0"
                )


@dataclass(frozen=True)
class LaunchSettings:
    """What becomes of ranks that revinst has started itself when one of them fails."""

    max_restarts: int = 0
    """when a rank dies or hangs, all start again from the newest checkpoint, so many times."""
    hang_s: float | str = "auto"
    """seconds in which a rank must end a step; auto (20 times the longest one, 5 minutes at least); 0: any time."""

    def __post_init__(self) -> None:
        if self.max_restarts < 0:
            raise UserError(f"launch.max_restarts {self.max_restarts}: must be at least 0")
        if self.hang_s != "auto" and (isinstance(self.hang_s, str) or not 0 <= self.hang_s < math.inf):
            raise UserError(f"launch.hang_s {self.hang_s}: must be auto, or seconds (0: no limit)")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole config, as a YAML file and the command line say it; the fields stand in the order of the file."""

    seed_everything: int = 42
    """of the adapter's first weights, dropout, the split and the order of rows."""
    trainer: Namespace
    """Lightning's own keys; what has a class_path is not made yet."""
    model: ModelSettings
    """the base and its adapter."""
    data: DataSettings
    """the texts and how they are packed."""
    run_name: str = "run"
    """the run's folder is RUNS_DIR/RUN_NAME."""
    runs_dir: str = "runs"
    """folder of all runs."""
    resume: str = "auto"
    """auto (start, go on, or say that it has finished), never, or the path of a checkpoint."""
    resume_force: bool = False
    """resume although the config changed."""
    checkpoint: CheckpointSettings
    """when to save, and what to keep."""
    samples: SampleSettings
    """instructions that are written while it trains."""
    val_generation: ValGenerationSettings
    """instructions that are scored while it trains."""
    launch: LaunchSettings
    """what happens when a rank dies or hangs."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed_everything < 2**32:
            raise UserError(f"seed_everything {self.seed_everything}: must be from 0 to {2**32 - 1}, as NumPy takes it")
        folder = Path(self.run_name)
        if folder.is_absolute() or not folder.parts or ".." in folder.parts:
            raise UserError(f"run_name {self.run_name!r}: give a name of a folder in runs_dir")
        monitor = self.checkpoint.monitor
        if monitor != "val/loss" and not self.val_generation.every_steps:
            raise UserError(f"checkpoint.monitor {monitor}: no texts are scored; set val_generation.every_steps")
