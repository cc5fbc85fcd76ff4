"""A linear layer as it is at this moment, with the adapter that PEFT would add to it.

PEFT's layers decide anew in each forward: `disable_adapter`, `set_adapter`, merging, a scale or dropout that changed.
So whoever computes in their place reads them anew too, and leaves to them what it can't do.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from peft.tuners.lora import Linear as LoraLinear

TRAINED = "weights of the base are trained"


@dataclass(frozen=True, slots=True)
class Projection:
    """A frozen base with one adapter or none.

    Attributes:
        adapter: A and B, as modules: sharding replaces their weights.
        scale: s in s B A.
        rank: 0 without an adapter.
        p: dropout of what A reads; 0 outside of training.
    """

    base: torch.nn.Linear
    adapter: tuple[torch.nn.Linear, ...] = ()
    scale: float = 0.0
    rank: int = 0
    p: float = 0.0

    @property
    def outputs(self) -> int:
        return self.base.out_features

    @property
    def inputs(self) -> int:
        return self.base.in_features

    @property
    def parameters(self) -> list[Tensor]:
        """A [r, K] and B [N, r]; read anew for each pass."""
        return [part.weight for part in self.adapter]


def read_projection(module: torch.nn.Module) -> Projection:
    """module: one that `why_not_linear` has nothing against."""
    base = base_of(module)
    if base is module:
        return Projection(base)
    layer = cast("LoraLinear", module)
    for name in adapters_in_use(layer):
        dropout, adapter = layer.lora_dropout[name], (layer.lora_A[name], layer.lora_B[name])
        p = float(getattr(dropout, "p", 0.0)) if dropout.training else 0.0
        return Projection(base, cast("tuple[torch.nn.Linear, ...]", adapter), layer.scaling[name], layer.r[name], p)
    return Projection(base)


def base_of(module: torch.nn.Module) -> torch.nn.Linear:
    return cast(torch.nn.Linear, getattr(module, "base_layer", module))


def adapters_in_use(layer: "LoraLinear") -> list[str]:
    """Names of those that PEFT adds: none where they are switched off, or merged into the base."""
    if layer.disable_adapters or layer.merged:
        return []
    return [name for name in layer.active_adapters if name in layer.lora_A]


def why_not_linear(module: torch.nn.Module) -> str:
    """Why a linear layer can't be read as a `Projection` right now; empty if it can."""
    base = base_of(module)
    if type(base).__name__ not in ("Linear", "Linear4bit"):
        return f"{type(base).__name__} layers"
    if base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad):
        return TRAINED
    if module._forward_hooks or module._forward_pre_hooks:
        return "linear layers with hooks"  # PEFT's `adapter_names` are some
    return "" if base is module else why_not_adapter(cast("LoraLinear", module))


def why_not_adapter(layer: "LoraLinear") -> str:
    if layer.disable_adapters and layer.merged:
        return "an adapter that is merged and switched off"  # PEFT takes it out of the base in its forward
    names = adapters_in_use(layer)
    if len(names) > 1:
        return "several adapters at once"
    if any(name in layer.lora_variant or layer.lora_bias.get(name) for name in names):
        return "a variant of LoRA (DoRA, bias)"
    return ""
