"""Operations on a cache of keys and values: plain PyTorch in `plain`, the same functions in Triton in `kernels`."""

from types import ModuleType

import torch

from revinst.model.hardware import has_triton


def load_ops(device: torch.device) -> ModuleType:
    if has_triton(device):
        from revinst.inference.engine.cached import kernels

        return kernels
    from revinst.inference.engine.cached import plain

    return plain
