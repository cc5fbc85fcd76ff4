"""`linear.Group` with the base's products in 8 bits, forward and backward; adapters stay in 16.

    y_i = e(x) e(W_i)^T + dropout(x) A_i^T (s_i B_i)^T        x_grad = e(y_grad) e(W) + u_grad A

e rounds to e4m3 (3 bits of mantissa, at most 448) after scaling each row so that its largest element becomes 448. A
scale has to be constant along the summed dimension, so W has two sets: one scale an output for forward, one an input,
over all projections of the group, for backward. They are taken once from the 4-bit base. The 8-bit weights are not
kept: each product unpacks its own from 4 bits, in the layout that it needs.

Shapes as in `linear`.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from revinst.model.fused import twins
from revinst.model.fused.adapter import Adapter
from revinst.model.fused.linear import Group


class Fp8Group(Group):
    def __init__(self, modules: list[Any], ops: ModuleType):
        super().__init__(modules, ops)
        weights = [twins.unpack_base(projection.base).float() for projection in self.projections]
        self.output_scales = [twins.scale_of(weight.abs().amax(1)) for weight in weights]  # [N_i, 1] each
        self.input_scale = twins.scale_of(torch.stack([weight.abs().amax(0) for weight in weights]).amax(0))  # [K, 1]

    def room(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[T, K] twice: the adapter is a product of its own here."""
        room = x.new_empty(x.shape[0], self.inputs)
        return room, room

    def forward(self, room: Tensor, dropped: Tensor, adapter: Adapter) -> tuple[list[Tensor], Tensor]:
        u, x = self.shrink(dropped, adapter), self.ops.quantize_rows(room)
        outputs = []
        for projection, scale, ranks, b in zip(
            self.projections, self.output_scales, self.ranks, adapter.b, strict=True
        ):
            weight = torch.empty(projection.outputs, self.inputs, dtype=twins.E4M3, device=room.device)
            self.ops.fill_base_fp8(projection.base, scale, weight, transpose=False)
            y = self.ops.multiply_fp8(x, (weight, scale), room.dtype)
            outputs.append(y.addmm_(u[:, ranks], b.T) if projection.rank else y)
        return outputs, u

    def backward(self, grad: Tensor, adapter: Adapter, dropout: bool) -> tuple[Tensor, Tensor | None]:
        n = self.outputs
        weight = torch.empty(self.inputs, n, dtype=twins.E4M3, device=grad.device)
        for projection, columns, ranks, b in zip(self.projections, self.columns, self.ranks, adapter.b, strict=True):
            self.ops.fill_base_fp8(projection.base, self.input_scale, weight[:, columns], transpose=True)
            if projection.rank:
                torch.mm(grad[:, columns], b, out=grad[:, n:][:, ranks])
        x_grad = self.ops.multiply_fp8(self.ops.quantize_rows(grad[:, :n]), (weight, self.input_scale), grad.dtype)
        if not self.rank:
            return x_grad, None
        if dropout:
            return x_grad, grad[:, n:] @ adapter.a
        return x_grad.addmm_(grad[:, n:], adapter.a), None
