"""Which layers of a model can be fused, and fusing them."""

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from revinst.config.words import KERNELS, check_word
from revinst.errors import UserError
from revinst.model.fused.description import Undescribed, describe
from revinst.model.fused.fp8 import BaseGemm
from revinst.model.fused.host_memory import HostMemory
from revinst.model.fused.layer import FusedLayer, read_layer
from revinst.model.hardware import has_triton

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer


def choose_layers(
    layers: Iterable[torch.nn.Module], kernels: str, *, on_gpu: bool, triton: bool
) -> tuple[list[int], str]:
    """(numbers of the layers to fuse, reason). `auto` fuses on CUDA what can be fused; `fused` does on the CPU too.

    triton: our kernels run there (`has_triton`). Raises UserError where `fused` was asked for and no layer can be.
    """
    check_word("model.kernels", kernels, KERNELS)
    if kernels == "plain":
        return [], "plain: asked for"
    if kernels == "auto" and not on_gpu:
        return [], "plain: fused layers are for CUDA GPUs"
    if on_gpu and not triton:
        if kernels == "fused":
            raise UserError("model.kernels fused: Triton and a GPU of compute capability 8.0 are needed; use auto")
        return [], "plain: fused layers need Triton and a GPU of compute capability 8.0"
    obstacles = {number: why_not(layer) for number, layer in enumerate(layers)}
    fusible = [number for number, obstacle in obstacles.items() if not obstacle]
    reasons = ", ".join(sorted({obstacle for obstacle in obstacles.values() if obstacle}))
    if kernels == "fused" and not fusible:
        raise UserError(f"model.kernels fused: no layer of this model can be ({reasons}); use model.kernels: auto")
    reason = f"{len(fusible)} of {len(obstacles)} layers fused" + (
        f"; the others stay plain: {reasons}" * bool(reasons)
    )
    return fusible, reason


def fuse_layers(
    layers: torch.nn.ModuleList,
    numbers: list[int],
    recomputed: int,
    kernel: Callable[..., Tensor],
    gemm: BaseGemm = BaseGemm(),  # noqa: B008  (frozen)
) -> HostMemory:
    """Replaces the forward of these layers. Of all layers, the first `recomputed` are offloaded: they keep their inputs
    alone, in the memory that is returned, and recompute the rest. gemm: how the base's products are taken in training.
    """
    device = next(layers.parameters()).device
    ops, host = load_ops(device), HostMemory(device)
    for number in numbers:
        of_layer = host if number < recomputed else None
        layer = cast("LlamaDecoderLayer", layers[number])
        layer.gradient_checkpointing = False
        layers[number].forward = FusedLayer(layer, number, kernel, ops, of_layer, gemm=gemm)
    return host


def linears_of(module: torch.nn.Module) -> list[torch.nn.Linear]:
    """The base's, of a decoder layer that can be fused."""
    groups, _ = read_layer(cast("LlamaDecoderLayer", module), describe(module))
    return [projection.base for group in groups for projection in group]


def load_ops(device: torch.device) -> ModuleType:
    if has_triton(device):
        from revinst.model.fused import kernels

        return kernels
    from revinst.model.fused import reference

    return reference


def why_not(module: torch.nn.Module) -> str:
    """Why a decoder layer can't be fused; empty if it can."""
    layer = cast("LlamaDecoderLayer", module)
    try:
        what = describe(layer)
    except Undescribed as error:
        return str(error)
    return "its heads are odd" if what.head_dim % 2 else read_layer(layer, what)[1]
