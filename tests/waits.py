"""Where the host would wait for the device, found on a CPU: whatever reads a tensor, or copies a number to a device."""

import traceback
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

READS = (
    *(Tensor.item, Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.nonzero, torch.nonzero, Tensor.equal, torch.equal),
    *(getattr(Tensor, f"__{name}__") for name in ("bool", "int", "float", "index", "array", "contains")),
)
COPIES = (torch.tensor, torch.as_tensor)
# torch's AdamW counts steps on the host (fused, for GPUs, on the device); masks are drawn by the CPU's generator; and
# what a test reads is no part of a step.
ON_THE_HOST = ("torch/optim/", "revinst/model/fused/mask.py", "/tests/invariants/rank_steps.py")


class Waits(TorchFunctionMode):
    """A context; `found` then has `function at file:line` of each wait."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in READS or (func in COPIES and kwargs.get("device") is not None):
            frames = [frame for frame in traceback.extract_stack()[:-1] if frame.filename != __file__]
            starts = [number for number, frame in enumerate(frames) if frame.filename.endswith("training/module.py")]
            inner = frames[starts[0] :] if starts else frames
            if not any(part in frame.filename for frame in inner for part in ON_THE_HOST):
                self.found.append(f"{func.__name__} at {frames[-1].filename}:{frames[-1].lineno}")
        return func(*args, **kwargs)
