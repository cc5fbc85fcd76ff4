"""Where a block of a layer leaves the residual stream and where it joins it again.

Shapes: T tokens, h features.
"""

from types import ModuleType

import torch
from torch import Tensor

from revinst.model.fused.description import Norm
from revinst.model.fused.mask import Mask


class Entry:
    """x -> n(x), n: a norm, or nothing."""

    def __init__(self, norm: Norm | None, ops: ModuleType):
        self.norm, self.ops = norm, ops

    def read(self, x: Tensor, out: Tensor, mask: Mask | None) -> Tensor:
        """n(x) [T, h] into out. Returns dropout(n(x))."""
        return self.ops.place(x, out, mask) if self.norm is None else self.ops.norm(x, self.norm.read(), out, mask)

    def add_and_read(self, x: Tensor, delta: Tensor, out: Tensor, mask: Mask | None) -> tuple[Tensor, Tensor]:
        """(x + delta, `read` of it)."""
        if self.norm is None:
            total = x + delta
            return total, self.ops.place(total, out, mask)
        return self.ops.add_norm(x, delta, self.norm.read(), out, mask)

    def backward(
        self, x: Tensor, grads: tuple[Tensor, Tensor | None, Tensor], mask: Mask | None, out: Tensor
    ) -> Tensor:
        """Gradient of x [T, h] into out. Returns dropout(n(x)) once more.

        grads: of n(x) through the base and, dropout not applied, through the adapter; of the stream that passes by.
        """
        if self.norm is not None:
            return self.ops.norm_backward(x, self.norm.read(), grads, mask, out)
        base, lora, residual = grads
        torch.add(residual, self.ops.add_masked(base, lora, mask), out=out)
        return self.ops.drop(x, mask)


class Exit:
    """What a block adds to the stream: s n(y) of its output y, n: a norm, or nothing."""

    def __init__(self, norm: Norm | None, scale: float, ops: ModuleType):
        self.norm, self.scale, self.ops = norm, scale, ops

    def delta(self, y: Tensor) -> Tensor:
        """s n(y) [T, h]. Overwrites y, unless `keeps`."""
        delta = y if self.norm is None else self.ops.norm(y, self.norm.read(), torch.empty_like(y), None)
        return delta if self.scale == 1 else delta.mul_(self.scale)

    @property
    def is_plain(self) -> bool:
        """Whether y itself is added."""
        return self.norm is None and self.scale == 1

    @property
    def keeps(self) -> bool:
        """Whether backward needs y."""
        return self.norm is not None

    def backward(self, grad: Tensor, y: Tensor | None, out: Tensor) -> None:
        """Gradient of y [T, h] into out; grad: of the stream."""
        if self.norm is None:
            self.ops.place(grad, out, None)
        else:
            assert y is not None, "kept by the forward"
            self.ops.norm_backward(y, self.norm.read(), (grad, None, None), None, out, again=False)
        if self.scale != 1:
            out.mul_(self.scale)
