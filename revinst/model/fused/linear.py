"""The GEMMs of linear layers that read one input, with their LoRA adapters.

    y_i = x W_i^T + dropout(x) A_i^T (s B_i)^T

Adapter and base are one GEMM, concatenated along the summed dimension: [x | u_i] [W_i | s B_i]^T with the small
u_i = dropout(x) A_i^T. So the sum is taken in fp32 inside the GEMM and nothing is cloned, scaled or added afterwards.
Base weights are unpacked to 16 bits for one GEMM at a time.

Shapes: T tokens, K inputs, N_i outputs and r_i rank of layer i (0 where it has no adapter), N and R their sums.
"""

from itertools import pairwise
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


class Projection:
    """One linear layer, with PEFT's adapter `default` or without one."""

    def __init__(self, module: Any):
        self.base = module.base_layer if hasattr(module, "base_layer") else module
        self.adapted = hasattr(module, "base_layer")
        self.parameters: list[Tensor] = []
        self.scale, self.rank = 0.0, 0
        if self.adapted:
            self.parameters = [module.lora_A["default"].weight, module.lora_B["default"].weight]  # [r, K], [N_i, r]
            self.scale, self.rank = module.scaling["default"], module.r["default"]
        self.outputs, self.inputs = self.base.out_features, self.base.in_features


class Group:
    """Projections that read the same input. Adapter weights are passed in, cast to the dtype of the computation."""

    def __init__(self, projections: list[Projection], ops: ModuleType):
        self.projections, self.ops = projections, ops
        self.inputs = projections[0].inputs
        self.outputs = sum(p.outputs for p in projections)
        self.rank = sum(p.rank for p in projections)
        self.widest = max(p.rank for p in projections)
        self.columns = offsets([p.outputs for p in projections])  # of layer i in an output of all layers
        self.ranks = offsets([p.rank for p in projections])  # of u_i in u

    def room(self, x: Tensor) -> Tensor:
        """Input of `forward`, to be filled: [T, K + widest r_i]. Its first K columns are the input itself."""
        return x.new_empty(x.shape[0], self.inputs + self.widest)

    def grad_room(self, x: Tensor) -> Tensor:
        """Input of `backward`, to be filled: [T, N + R]. Its first N columns are the gradients of the outputs."""
        return x.new_empty(x.shape[0], self.outputs + self.rank)

    def down(self, dropped: Tensor, weights: list[Tensor]) -> Tensor | None:
        """u [T, R] from the dropped input [T, K]. weights: A_0, B_0, A_1, B_1, ..."""
        return dropped @ torch.cat(weights[::2]).T if self.rank else None

    def forward(self, x: Tensor, dropped: Tensor, weights: list[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """The outputs [T, N_i] and u [T, R]. x: `room`, its first K columns filled, the others are scratch."""
        u, k = self.down(dropped, weights), self.inputs
        adapters, outputs = iter(weights[1::2]), []
        for projection, (start, end) in zip(self.projections, self.ranks, strict=True):
            weight = x.new_empty(projection.outputs, k + projection.rank)
            self.ops.fill_base(projection.base, weight[:, :k])
            if u is not None and projection.rank:
                torch.mul(next(adapters), projection.scale, out=weight[:, k:])
                x[:, k : k + projection.rank] = u[:, start:end]
            outputs.append(x[:, : weight.shape[1]] @ weight.T)
        return outputs, u

    def backward(
        self, grad: Tensor, weights: list[Tensor], dropout: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Gradient of the input [T, K], and the adapters' share of it if dropout has still to be applied to that.

        grad: `grad_room`, its first N columns filled; the last R become the gradient of u.
        """
        n, weight = self.outputs, grad.new_empty(self.outputs + self.rank, self.inputs)
        adapters = iter(weights[1::2])
        for projection, columns, ranks in zip(self.projections, self.columns, self.ranks, strict=True):
            self.ops.fill_base(projection.base, weight[slice(*columns)])
            if projection.rank:
                u_grad = grad[:, n + ranks[0] : n + ranks[1]]
                torch.mm(grad[:, slice(*columns)], next(adapters) * projection.scale, out=u_grad)
        if self.rank:
            torch.cat(weights[::2], out=weight[n:])
        if dropout and self.rank:
            return grad[:, :n] @ weight[:n], grad[:, n:] @ weight[n:]
        return grad @ weight, None

    def adapter_grads(self, grad: Tensor, dropped: Tensor, u: Tensor | None) -> list[Tensor]:
        """Gradients of A_0, B_0, A_1, ... after `backward`; u is computed with them where it was not kept."""
        if not self.rank:
            return []
        assert u is not None
        grads: list[Tensor] = []
        a_grad = grad[:, self.outputs :].T @ dropped  # [R, K]
        for projection, columns, ranks in zip(self.projections, self.columns, self.ranks, strict=True):
            if projection.rank:
                b_grad = grad[:, slice(*columns)].T @ u[:, slice(*ranks)]  # [N_i, r_i]
                grads += [a_grad[slice(*ranks)], b_grad * projection.scale]
        return grads


def offsets(sizes: list[int]) -> list[tuple[int, int]]:
    """
    >>> offsets([3, 0, 2])
    [(0, 3), (3, 3), (3, 5)]
    """
    ends = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    return list(pairwise(ends))
