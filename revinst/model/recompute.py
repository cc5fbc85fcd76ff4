"""Activation checkpointing: which decoder layers keep their activations and which recompute them in backward."""

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.utils.checkpoint import checkpoint

from revinst.model.network import Network

if TYPE_CHECKING:
    from transformers.modeling_layers import GradientCheckpointingLayer
    from transformers.models.llama.modeling_llama import LlamaMLP

CHEAP: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}  # nothing random in it
AUTO_SHARE = 0.8  # of the memory that is free when the model is loaded; the rest is for logits and fragmentation


def count_recomputed_layers(
    layers: int, activation_memory_gib: float | str, layer_bytes: float, free_gib: float | None
) -> int:
    """How many layers must recompute so that the others' activations fit the budget.

    activation_memory_gib: 0 recomputes all; a number is the budget in GiB; `auto` takes a share of what is free.
    layer_bytes: what a layer keeps of the largest micro-batch. free_gib: None: not known, or a CPU's; as if there were
    enough.
    """
    if activation_memory_gib == "auto" and free_gib is None:
        return 0
    budget = AUTO_SHARE * (free_gib or 0.0) if activation_memory_gib == "auto" else float(activation_memory_gib)
    return max(0, layers - int(max(budget, 0.0) * 2**30 // layer_bytes))


def recompute_layers(network: Network, numbers: Collection[int]) -> None:
    """Recomputes the activations of these decoder layers; the others keep theirs."""
    if not numbers:
        return
    network.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for number, layer in enumerate(network.layers):
        cast("GradientCheckpointingLayer", layer).gradient_checkpointing = number in numbers
        if number in numbers:
            recompute_elementwise(layer)


def recompute_elementwise(layer: torch.nn.Module) -> None:
    """Also inside a layer keeps only the inputs of norms and of the gated product.

    While one layer is recomputed, its own activations are the peak of memory. Those in fp32 inside the norms and the
    activated gate cost one cheap operation to make again, and 6h + 2f bytes per token to keep.
    """
    for module in layer.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = partial(checkpoint, module.forward, **CHEAP)
        elif all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn")):
            module.forward = partial(gated_mlp, cast("LlamaMLP", module))


def gated_mlp(mlp: "LlamaMLP", x: torch.Tensor) -> torch.Tensor:
    """down(act(gate(x)) * up(x)), the product recomputed in backward. x [1, T, h] -> [1, T, h]."""
    product = checkpoint(lambda gate, up: mlp.act_fn(gate) * up, mlp.gate_proj(x), mlp.up_proj(x), **CHEAP)
    return mlp.down_proj(product)
