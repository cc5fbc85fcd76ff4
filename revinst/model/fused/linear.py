"""The GEMMs of linear layers that read one input, with their LoRA adapters.

    y_i = x W_i^T + bias_i + dropout(x) A_i^T (s_i B_i)^T

Adapter and base are one GEMM, concatenated along the summed dimension: [x | u_i] [W_i | s_i B_i]^T with the small
u_i = dropout(x) A_i^T. So the sum is taken in fp32 inside the GEMM and nothing is cloned, scaled or added afterwards.
Base weights are unpacked to 16 bits for one GEMM at a time.

Shapes: T tokens, K inputs, N_i outputs and r_i rank of layer i (0 where it has no adapter), N and R their sums.
"""

from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType

import torch
from torch import Tensor

from revinst.model.fused.adapter import Adapter
from revinst.model.fused.projection import Projection


class Group:
    """Projections that read the same input."""

    def __init__(self, projections: Sequence[Projection], ops: ModuleType):
        self.projections, self.ops = list(projections), ops
        self.inputs = self.projections[0].inputs
        self.outputs = sum(p.outputs for p in self.projections)
        self.rank = sum(p.rank for p in self.projections)
        self.widest = max(p.rank for p in self.projections)
        self.columns = slices([p.outputs for p in self.projections])  # of layer i among all outputs
        self.ranks = slices([p.rank for p in self.projections])  # of u_i in u

    def buffer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Input of `forward`: [T, K + widest r_i] and its first K columns, which are to be filled."""
        buffer = x.new_empty(x.shape[0], self.inputs + self.widest)
        return buffer, buffer[:, : self.inputs]

    def grad_buffer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Input of `backward`: [T, N + R] and its first N columns, which are to be filled."""
        buffer = x.new_empty(x.shape[0], self.outputs + self.rank)
        return buffer, buffer[:, : self.outputs]

    def shrink(self, dropped: Tensor, adapter: Adapter) -> Tensor:
        """u [T, R] of the dropped input [T, K]."""
        return dropped @ adapter.a.T

    def shrink_grad(self, grad: Tensor, adapter: Adapter) -> None:
        """Fills the last R columns of a `grad_buffer`."""
        for projection, columns, ranks, b in zip(self.projections, self.columns, self.ranks, adapter.b, strict=True):
            if projection.rank:
                torch.mm(grad[:, columns], b, out=grad[:, self.outputs :][:, ranks])

    def forward(self, buffer: Tensor, dropped: Tensor, adapter: Adapter) -> tuple[list[Tensor], Tensor]:
        """The outputs [T, N_i] and u [T, R]."""
        u, k = self.shrink(dropped, adapter), self.inputs
        outputs = []
        for projection, ranks, b in zip(self.projections, self.ranks, adapter.b, strict=True):
            weight = buffer.new_empty(projection.outputs, k + projection.rank)
            self.ops.fill_base(projection.base, weight[:, :k])
            weight[:, k:] = b
            buffer[:, k : k + projection.rank] = u[:, ranks]
            read, bias = buffer[:, : weight.shape[1]], projection.base.bias
            outputs.append(read @ weight.T if bias is None else torch.addmm(bias.to(read.dtype), read, weight.T))
        return outputs, u

    def backward(self, grad: Tensor, adapter: Adapter, dropout: bool) -> tuple[Tensor, Tensor | None]:
        """Gradient of the input [T, K], and the adapters' share of it if dropout has still to be applied to that.

        grad: a filled `grad_buffer`; its last R columns become the gradient of u.
        """
        n, weight = self.outputs, grad.new_empty(self.outputs + self.rank, self.inputs)
        self.shrink_grad(grad, adapter)
        for projection, columns in zip(self.projections, self.columns, strict=True):
            self.ops.fill_base(projection.base, weight[columns])
        if dropout and self.rank:
            return grad[:, :n] @ weight[:n], grad[:, n:] @ adapter.a
        weight[n:] = adapter.a
        return grad @ weight, None

    def adapter_grads(self, grad: Tensor, dropped: Tensor, u: Tensor) -> list[Tensor]:
        """Gradients of A_0, s_0 B_0, A_1, ... from grad as `backward` left it."""
        if not self.rank:
            return []
        a_grad = grad[:, self.outputs :].T @ dropped  # [R, K]
        return [
            part
            for projection, columns, ranks in zip(self.projections, self.columns, self.ranks, strict=True)
            if projection.rank
            for part in (a_grad[ranks], grad[:, columns].T @ u[:, ranks])  # [r_i, K], [N_i, r_i]
        ]


def slices(sizes: list[int]) -> list[slice]:
    """
    >>> slices([3, 0, 2])
    [slice(0, 3, None), slice(3, 3, None), slice(3, 5, None)]
    """
    ends = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]
