"""What our loop asks of Lightning's Trainer, as far as its keys say it: told before anything is imported."""

import re
from collections.abc import Mapping

from revinst.config.loggers import check_loggers
from revinst.config.settings import Config
from revinst.config.words import ACCELERATORS, PRECISIONS, check_word
from revinst.errors import UserError

TRAINER_DEFAULTS = {
    "trainer.enable_checkpointing": False,
    "trainer.enable_model_summary": False,
    "trainer.use_distributed_sampler": False,
    "trainer.num_sanity_val_steps": 0,
}
REPLACED_FLAGS = {
    "accumulate_grad_batches": (1, "data.rows_per_step and data.micro_batch_size"),
    "gradient_clip_val": (None, "model.max_grad_norm"),
    "use_distributed_sampler": (False, "data.rows_per_step (the ranks share them)"),
    "enable_checkpointing": (False, "checkpoint.*"),
    "fast_dev_run": (False, "trainer.max_steps"),
    "min_steps": (None, "trainer.max_steps"),
    "min_epochs": (None, "trainer.max_epochs"),
    "max_time": (None, "a signal: SIGTERM saves a checkpoint and stops"),
}
ROUNDED = "it would round the adapter's updates away"
PRECISION_REASONS = {
    "bf16-true": ROUNDED,
    "16-true": ROUNDED,
    "transformer-engine": ROUNDED,
    "transformer-engine-float16": ROUNDED,
    "64-true": "the base computes in bf16 or fp32",
}
STRATEGIES = re.compile(
    r"auto|ddp(_find_unused_parameters_(true|false))?|fsdp2|(.*\.)?(DDP|Sharded|SingleDevice)Strategy"
)
REFUSED_STRATEGIES = {
    "deepspeed": "its engine owns accumulation and clipping, and ZeRO-3 does not shard 4-bit weights; use ddp, or "
    "fsdp2 to shard the base",
    "fsdp": "FSDP1 needs all weights of a layer in one dtype; use fsdp2",
    "modelparallel": "it does not know how to shard a 4-bit base; use fsdp2",
}


def check_trainer_flags(config: Config) -> None:
    """Refuses Trainer flags that the loop replaces, and values that it does not train right with."""
    trainer = config.trainer
    for flag, (value, instead) in REPLACED_FLAGS.items():
        if trainer.get(flag) not in (value, None):
            raise UserError(f"trainer.{flag}: the training loop replaces it; use {instead}")
    check_strategy(trainer.get("strategy") or "auto")
    check_loggers(trainer.get("logger"))
    accelerator = trainer.get("accelerator")
    if isinstance(accelerator, str) and "." not in accelerator:
        check_word("trainer.accelerator", accelerator, ACCELERATORS)
    if trainer.get("precision") is not None:
        check_precision_name(precision_name(trainer.precision))
    epochs, steps = trainer.get("max_epochs"), trainer.get("max_steps")
    if epochs == 0 or steps == 0 or (epochs or 0) < -1 or (steps or 0) < -1 or (epochs == -1 and steps in (-1, None)):
        raise UserError(f"trainer.max_epochs {epochs}, trainer.max_steps {steps}: give one of them, at least 1")


def check_precision_name(precision: str) -> None:
    """Refuses what the loop does not train right in, on whatever device."""
    if precision not in PRECISIONS:
        raise UserError(
            f"trainer.precision {precision}: {PRECISION_REASONS.get(precision, 'unknown')}; leave it out, or choose "
            f"from {', '.join(PRECISIONS)}"
        )


def precision_name(precision: object) -> str:
    """Of Lightning's spellings, the one that `Trainer.precision` has."""
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}.get(str(precision), str(precision))


def check_strategy(strategy: object) -> None:
    """Refuses what the loop does not train right under. strategy: a name, or a class path in a config."""
    name = name_of(strategy)
    plain = name.rpartition(".")[2].lower().removesuffix("strategy")
    if STRATEGIES.fullmatch(name):
        return
    given = [reason for refused, reason in REFUSED_STRATEGIES.items() if re.fullmatch(rf"{refused}(_.*)?", plain)]
    raise UserError(f"trainer.strategy {name}: {(given or ['choose from auto, ddp and fsdp2'])[0]}")


def name_of(strategy: object) -> str:
    """Of a strategy as a config spells it: a name, or a mapping with a class path."""
    if isinstance(strategy, Mapping):
        return str(strategy.get("class_path"))
    return strategy if isinstance(strategy, str) else str(getattr(strategy, "class_path", type(strategy).__name__))
