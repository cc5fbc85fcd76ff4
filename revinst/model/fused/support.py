"""Which layers of a model can be fused, and fusing them."""

from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from revinst.errors import UserError
from revinst.model.fused.fp8 import Fp8Group
from revinst.model.fused.host_memory import HostMemory
from revinst.model.fused.layer import FusedLayer, dropout_of
from revinst.model.fused.linear import Group

CHOICES = ("auto", "fused", "plain")
BASE_GEMMS = ("bf16", "fp8")
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def choose_layers(layers: Any, kernels: str, device: torch.device) -> tuple[list[int], str]:
    """(numbers of the layers to fuse, reason). `auto` fuses on CUDA what can be fused; `fused` does on the CPU too.

    Raises UserError where `fused` was asked for and no layer can be.
    """
    if kernels not in CHOICES:
        raise UserError(f"model.kernels {kernels!r}: choose from {', '.join(CHOICES)}")
    if kernels == "plain":
        return [], "plain: asked for"
    if kernels == "auto" and device.type != "cuda":
        return [], "plain: fused layers are for CUDA GPUs"
    if kernels == "auto" and find_spec("triton") is None:
        return [], "plain: Triton is not installed"
    obstacles = {number: why_not(layer) for number, layer in enumerate(layers)}
    fusible = [number for number, obstacle in obstacles.items() if not obstacle]
    reasons = ", ".join(sorted({obstacle for obstacle in obstacles.values() if obstacle}))
    if kernels == "fused" and not fusible:
        raise UserError(f"model.kernels fused: no layer of this model can be ({reasons}); use model.kernels: auto")
    reason = f"{len(fusible)} of {len(obstacles)} layers fused" + (
        f"; the others stay plain: {reasons}" * bool(reasons)
    )
    return fusible, reason


def check_base_gemm(base_gemm: str, kernels: str, device: torch.device, precision: Any) -> None:
    """Raises UserError where the base's products can't be taken as asked for."""
    if base_gemm == "bf16":
        return
    obstacle = ""
    if device.type != "cuda":
        obstacle = "a CPU has no 8-bit products; it needs a CUDA GPU of compute capability 8.9 (Ada, Hopper) or more"
    elif torch.cuda.get_device_capability(device) < (8, 9):
        major, minor = torch.cuda.get_device_capability(device)
        name = torch.cuda.get_device_name(device)
        obstacle = f"{name} has compute capability {major}.{minor}; 8-bit products need 8.9 (Ada, Hopper) or more"
    elif find_spec("triton") is None:
        obstacle = "it needs the package triton"
    elif kernels == "plain":
        obstacle = "only fused layers have it, and model.kernels is plain"
    elif precision == "32-true":
        obstacle = "its products come out in bf16, and trainer.precision is 32-true"
    if obstacle:
        raise UserError(f"model.base_gemm fp8: {obstacle}; use model.base_gemm: bf16")


def fuse_layers(
    layers: Any, numbers: list[int], recomputed: int, kernel: Callable[..., Tensor], base_gemm: str = "bf16"
) -> str:
    """Replaces the forward of these layers. Of all layers, the first `recomputed` are lean.

    Returns a sentence on the base's products. Raises UserError where `fp8` was asked for and no layer can have it.
    """
    group, reason = choose_group(layers, numbers, base_gemm)
    device = next(layers.parameters()).device
    ops, host = load_ops(device), HostMemory(device)
    for number in numbers:
        parked = host if number < recomputed else None
        layers[number].gradient_checkpointing = False
        layers[number].forward = FusedLayer(layers[number], number, kernel, ops, parked, group=group)
    return reason


def choose_group(layers: Any, numbers: list[int], base_gemm: str) -> tuple[type[Group], str]:
    """(class of the layers' products, sentence)."""
    if base_gemm == "bf16":
        return Group, "bf16: the default"
    sizes = {size for number in numbers for size in linear_sizes(layers[number])}
    odd = sorted(size for size in sizes if size % 16)
    if odd or not numbers:
        obstacle = f"a linear layer has {odd[0]} features, no multiple of 16" if odd else "no layer is fused"
        raise UserError(f"model.base_gemm fp8: {obstacle}; use model.base_gemm: bf16")
    return Fp8Group, f"fp8: e4m3 with a scale a row, in {len(numbers)} of {len(layers)} layers; adapters in bf16"


def linear_sizes(layer: Any) -> list[int]:
    """Inputs and outputs of a decoder layer's linear layers."""
    modules = [getattr(layer.self_attn, name, None) or getattr(layer.mlp, name) for name in LINEARS]
    return [size for module in modules for size in (module.in_features, module.out_features)]


def load_ops(device: torch.device) -> ModuleType:
    if device.type == "cuda":
        from revinst.model.fused import kernels

        return kernels
    from revinst.model.fused import twins

    return twins


def why_not(layer: Any) -> str:
    """Why a decoder layer can't be fused; empty if it can."""
    if type(layer).__name__ != "LlamaDecoderLayer":
        return f"{type(layer).__name__} is not Llama's"
    attention, mlp = layer.self_attn, layer.mlp
    if type(mlp.act_fn).__name__ not in ("SiLU", "SiLUActivation"):
        return f"its activation is {type(mlp.act_fn).__name__}"
    if attention.attention_dropout or attention.head_dim % 2:
        return "it has attention dropout" if attention.attention_dropout else "its heads are odd"
    modules = [getattr(attention, name, None) or getattr(mlp, name, None) for name in LINEARS]
    if any(parameter.requires_grad for name, parameter in layer.named_parameters() if "lora_" not in name):
        return "weights of the base are trained"
    dropouts = {dropout_of(module) for module in modules if hasattr(module, "base_layer")}
    obstacle = next((obstacle for module in modules if (obstacle := why_not_linear(module))), "")
    return obstacle or ("its adapters differ in dropout" if len(dropouts) > 1 else "")


def why_not_linear(module: Any) -> str:
    base = module.base_layer if hasattr(module, "base_layer") else module
    if type(base).__name__ not in ("Linear", "Linear4bit"):
        return f"{type(base).__name__} layers"
    if base.bias is not None:
        return "linear layers with bias"
    if base is module:
        return ""
    if module.active_adapters != ["default"] or list(module.lora_A) != ["default"] or module.merged:
        return "another adapter than one called default"
    if module.lora_variant or module.lora_bias.get("default"):
        return "a variant of LoRA (DoRA, bias)"
    return ""
