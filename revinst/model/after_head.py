"""What some bases do with their logits after the head: a scale, a soft cap."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

AfterHead = Callable[[Tensor], Tensor]  # logits [n, V] in fp32 -> the same shape
MULTIPLIED = ("logit_scale", "lm_head_multiplier")
CAPPED = ("final_logit_softcapping", "logits_soft_cap")


def read_after_head(config: "PreTrainedConfig") -> AfterHead | None:
    """None: nothing, as of most bases. That a config was read right is proved in `proof.py`, for its type."""
    scale = 1.0
    for name in MULTIPLIED:
        scale *= getattr(config, name, None) or 1.0
    if scaling := getattr(config, "logits_scaling", None):
        scale *= scaling if config.model_type == "hyperclovax" else 1 / scaling  # Granite's divides
    cap = read_cap(config)
    if scale == 1.0 and cap is None:
        return None

    def after_head(logits: Tensor) -> Tensor:
        logits = logits * scale
        return logits if cap is None else cap * (logits / cap).tanh()

    return after_head


def read_cap(config: "PreTrainedConfig") -> float | None:
    return next((value for name in CAPPED if (value := getattr(config, name, None))), None)
