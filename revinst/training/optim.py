"""The optimizer, and the learning rate as a pure function of the step."""

import math
from collections.abc import Iterable

import torch

from revinst.model.hardware import why_no_bitsandbytes


def build_optimizer(
    parameters: Iterable[torch.nn.Parameter],
    name: str,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    device: torch.device,
) -> tuple[torch.optim.Optimizer, str]:
    """(optimizer, reason): what was asked for, or torch's AdamW where bitsandbytes' is missing or can't page."""
    parameters = list(parameters)
    missing = "asked for" if name == "adamw" else why_not_paged(name, device)
    if missing:
        fused = device.type == "cuda"  # one kernel for all tensors
        return torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=fused), missing
    from bitsandbytes.optim import PagedAdamW8bit, PagedAdamW32bit

    kind = PagedAdamW32bit if name == "paged_adamw_32bit" else PagedAdamW8bit
    return kind(parameters, lr=lr, betas=betas, weight_decay=weight_decay), "asked for"


def why_not_paged(name: str, device: torch.device) -> str:
    if device.type != "cuda":
        return f"torch's AdamW: {name} pages the memory of CUDA GPUs, and this is {device.type}"
    missing = why_no_bitsandbytes()
    return f"torch's AdamW: {name} is bitsandbytes', and {missing}" if missing else ""


def page_state(optimizer: torch.optim.Optimizer) -> None:
    """Puts a paged optimizer's large buffers back into paged memory.

    bitsandbytes restores them as ordinary GPU tensors, so that a run that fitted would not fit any more once resumed
    (0.50.2, `optim/optimizer.py`, `load_state_dict`).
    """
    if not getattr(optimizer, "is_paged", False):
        return
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if not isinstance(value, torch.Tensor) or value.shape != parameter.shape or hasattr(value, "is_paged"):
                continue
            buffer = optimizer.get_state_buffer(parameter, dtype=value.dtype)  # type: ignore[attr-defined]
            buffer.copy_(value)
            state[name] = buffer


def lr_at(step: int, *, lr: float, schedule: str, warmup_steps: int, total_steps: int) -> float:
    """Learning rate of a step, counted from 0. No step has lr 0.

    >>> [lr_at(s, lr=1.0, schedule="linear", warmup_steps=2, total_steps=6) for s in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    if schedule == "constant":
        return lr
    left = max(total_steps - step, 1) / max(total_steps - warmup_steps, 1)
    return lr * (left if schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))
