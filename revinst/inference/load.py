"""A trained adapter on its base, ready to write: the base dequantised once where memory allows."""

import sys
from pathlib import Path

import torch

from revinst.model.adapter import load_adapter
from revinst.model.base import dequantize_base, load_base
from revinst.model.hardware import Machine, free_bytes
from revinst.model.network import Network
from revinst.model.proof import choose_proved


def load_for_inference(
    base: str,
    adapter: Path | None,
    device: torch.device,
    quantization: str = "nf4",
    dtype: torch.dtype = torch.bfloat16,
    *,
    dequantize: bool | None = None,
    memory_gib: float | None = None,
) -> Network:
    """The base with the adapter of a folder (None: the base alone), in eval mode.

    The adapter is computed in `dtype`, as autocast does in training. 4-bit weights become the same values in `dtype`,
    so that no pass has to unpack them, if `dequantize`; None: where three times the memory that they need is free.

    memory_gib: what may be used; None: all that is free. A machine that can't do `quantization` says so on stderr.
    """
    hardware = choose_proved(base, Machine(device=device, dtype=dtype), quantization=quantization)
    if hardware.quantization != quantization:
        print(f"quantization: {hardware.reasons['quantization']}", file=sys.stderr)
    model = load_base(base, device, hardware.quantization, hardware.attention, dtype)
    if hardware.quantization == "nf4" and (
        fits_dequantized(model, device, dtype, memory_gib) if dequantize is None else dequantize
    ):
        model = dequantize_base(model)
    if adapter is None:
        return Network(model).eval()
    adapted = load_adapter(model, adapter)
    for parameter in adapted.parameters():
        if parameter.dtype == torch.float32:
            parameter.data = parameter.data.to(dtype)
    return Network(adapted).eval()


def fits_dequantized(
    model: torch.nn.Module, device: torch.device, dtype: torch.dtype, memory_gib: float | None
) -> bool:
    """Whether the weights fit three times over in `dtype`: cache and activations have the rest."""
    free = free_bytes(device)
    packed = sum(p.numel() * p.element_size() for p in model.parameters() if p.dtype == torch.uint8)
    if memory_gib is not None:
        free = min(free, int(memory_gib * 2**30))
    return free > 3 * 2 * dtype.itemsize * packed
