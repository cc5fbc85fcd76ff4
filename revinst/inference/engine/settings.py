"""How to decode; known and checked before anything heavy is imported."""

from dataclasses import asdict, dataclass, field
from typing import Any

from revinst.config.words import DTYPES, ENGINES, check_word
from revinst.errors import UserError


def own_precision() -> str:
    """What the device that decodes takes by itself."""
    from revinst.model.hardware import choose_dtype, pick_device

    return choose_dtype(pick_device())[0]


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How to decode; kept beside every score.

    Attributes:
        max_new_tokens: at most this many, EOS included.
        temperature: 0 is greedy.
        top_p: smallest set of tokens with this probability is sampled from.
        top_k: only this many of the likeliest tokens are; 0: all.
        seed: of the sampling; with the same one a prompt gives the same sample, whatever is decoded beside it.
        batch_size: sequences decoded together, at most; None: what the device is best at.
        engine: auto, slots (ours, for layers built as Llama's or Gemma's) or hf.
        memory_gib: what weights and cache may take; None: what is free.
        precision: bf16, fp16 or fp32, by default the device's; in fp32 texts do not depend on what is decoded beside
            them.
        fp8_prefill: prompts are read with weights in 8 bits (e4m3), the adapter in them; texts are written in 16.
    """

    max_new_tokens: int = 100
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    batch_size: int | None = None
    engine: str = "auto"
    memory_gib: float | None = None
    precision: str = field(default_factory=own_precision)
    fp8_prefill: bool = False

    def __post_init__(self):
        if self.max_new_tokens < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise UserError("--max_new_tokens and --batch_size must be at least 1")
        if not (self.temperature == 0 or 1e-3 <= self.temperature <= 1e3) or not 0 < self.top_p <= 1:
            raise UserError("--temperature must be 0 (greedy) or between 0.001 and 1000, --top_p in (0, 1]")
        if self.top_k < 0:
            raise UserError(f"--top_k {self.top_k}: must be 0 (all tokens) or more")
        check_word("--engine", self.engine, ENGINES)
        check_word("--precision", self.precision, DTYPES)
        if self.fp8_prefill and (self.engine == "hf" or self.precision != "bf16"):
            raise UserError("--fp8_prefill: needs our slots and bf16; leave --engine and --precision out")
        if self.memory_gib is not None and not self.memory_gib > 0:
            raise UserError(f"--memory_gib {self.memory_gib}: must be above 0")

    def describe(self) -> dict[str, Any]:
        """What was asked for that the texts depend on; how many sequences or GiB only changes the rounding."""
        names = ["max_new_tokens", "temperature"]
        if self.temperature:
            names += ["top_p", "seed"] + ["top_k"] * bool(self.top_k)
        if self.precision != "bf16":
            names += ["precision"]
        if self.engine == "hf":
            names += ["engine"]
        if self.fp8_prefill:
            names += ["fp8_prefill"]
        return {name: value for name, value in asdict(self).items() if name in names}
