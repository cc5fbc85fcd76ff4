"""The frozen base's products in 8 bits (e4m3); adapters, norms, attention and the head keep their 16.

    y_i = e(x) e(W_i)^T + bias_i + dropout(x) A_i^T (s_i B_i)^T        x_grad = e(y_grad) e(W) + u_grad A

e rounds to three bits of mantissa after scaling: x and y_grad a token, so that no document's numbers depend on its
neighbours; W by one number for all of a group, since the second product sums over its projections, and since e4m3 is
as fine 2^14 below its largest number as there. What is not finite stays so: its whole token becomes nan.

Only in training mode: evaluation, validation and generation compute in 16 bits. Shapes as in `linear`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from revinst.errors import UserError
from revinst.model.fused import reference
from revinst.model.fused.adapter import Adapter
from revinst.model.fused.linear import Group
from revinst.model.fused.projection import Projection
from revinst.model.hardware import Hardware

# What `model.base_gemm: auto` is where 8 bits are possible: over five seeds it can't be told from 16 bits, by val/loss
# or ROUGE-L (docs/speed.md). A run that began in 16 bits stays there (`InstructionModule.settings_to_build`).
AUTO = "fp8_backward"
COPIES = {"bf16": 0, "fp8_backward": 1, "fp8": 2}  # of the weights, where they are kept: each product has its layout
MULTIPLE = 16  # of features, that a product in 8 bits takes


@dataclass(frozen=True, slots=True)
class BaseGemm:
    """kind: bf16, fp8_backward or fp8. keeps: 8-bit weights stay in memory, else each product unpacks its own."""

    kind: str = "bf16"
    keeps: bool = False


class Fp8Weights:
    """Weights of a group's bases in e4m3, and the number that they are divided by."""

    def __init__(self, ops: ModuleType, keeps: bool):
        self.ops, self.keeps = ops, keeps
        self.weights: list[Tensor] = []  # that `scales` are of
        self.kept: dict[bool, Tensor] = {}

    def read(self, projections: Sequence[Projection], transpose: bool) -> Tensor:
        """[N, K], all one below the other, or transposed. Sets `scales`: the number, for each output of a product."""
        outputs, inputs = sum(p.outputs for p in projections), projections[0].inputs
        weights = [projection.base.weight for projection in projections]
        if len(weights) != len(self.weights) or any(a is not b for a, b in zip(weights, self.weights, strict=True)):
            self.weights, self.kept = weights, {}
            peaks = [reference.unpack_base(projection.base).abs().amax() for projection in projections]
            self.scales = reference.fp8_scale(torch.stack(peaks).amax()).repeat(1, max(outputs, inputs))
        if transpose in self.kept:
            return self.kept[transpose]
        shape = (inputs, outputs) if transpose else (outputs, inputs)
        filled = torch.empty(shape, dtype=reference.E4M3, device=self.scales.device)
        start = 0
        for projection in projections:
            part = filled.narrow(int(transpose), start, projection.outputs)
            self.ops.fill_base_fp8(projection.base, self.scales[0, 0], part, transpose)
            start += projection.outputs
        if self.keeps:
            self.kept[transpose] = filled
        return filled


class Fp8BackwardGroup(Group):
    """The gradient of the input in 8 bits; forward as it is."""

    def __init__(self, projections: Sequence[Projection], ops: ModuleType, weights: Fp8Weights):
        super().__init__(projections, ops)
        self.weights = weights

    def multiply(self, x: tuple[Tensor, Tensor], weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """x [T, K], of `quantize_rows`, times the transpose of weight [N, K] -> [T, N]."""
        return self.ops.multiply_fp8(x, (weight, self.weights.scales[:, : len(weight)]), bias, dtype)

    def backward(self, grad: Tensor, adapter: Adapter, dropout: bool) -> tuple[Tensor, Tensor | None]:
        n = self.outputs
        self.shrink_grad(grad, adapter)
        weight = self.weights.read(self.projections, transpose=True)
        x_grad = self.multiply(self.ops.quantize_rows(grad[:, :n]), weight, None, grad.dtype)
        if not self.rank:
            return x_grad, None
        if dropout:
            return x_grad, grad[:, n:] @ adapter.a
        return x_grad.addmm_(grad[:, n:], adapter.a), None


class Fp8Group(Fp8BackwardGroup):
    """Both products in 8 bits."""

    def buffer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[T, K] twice: the adapter's product is one of its own."""
        buffer = x.new_empty(x.shape[0], self.inputs)
        return buffer, buffer

    def forward(self, buffer: Tensor, dropped: Tensor, adapter: Adapter) -> tuple[list[Tensor], Tensor]:
        u, x = self.shrink(dropped, adapter), self.ops.quantize_rows(buffer)
        weight, outputs = self.weights.read(self.projections, transpose=False), []
        for projection, rows, ranks, b in zip(self.projections, self.columns, self.ranks, adapter.b, strict=True):
            y = self.multiply(x, weight[rows], projection.base.bias, buffer.dtype)
            outputs.append(y.addmm_(u[:, ranks], b.T) if projection.rank else y)
        return outputs, u


class LayerGemm:
    """How one layer takes its base's products: makes its groups, and has their 8-bit weights."""

    def __init__(self, gemm: BaseGemm, ops: ModuleType):
        self.gemm, self.ops = gemm, ops
        self.weights: dict[int, Fp8Weights] = {}

    def groups(self, projections: Sequence[Sequence[Projection]], exact: bool) -> list[Group]:
        """exact: in 16 bits, whatever was asked for."""
        if exact or self.gemm.kind == "bf16":
            return [Group(group, self.ops) for group in projections]
        made = Fp8Group if self.gemm.kind == "fp8" else Fp8BackwardGroup
        groups: list[Group] = []
        for number, group in enumerate(projections):
            weights = self.weights.setdefault(number, Fp8Weights(self.ops, self.gemm.keeps))
            groups.append(made(group, self.ops, weights))
        return groups


# ---- whether they can be -------------------------------------------------------------------------------------------


def check_base_gemm(asked: str, hardware: Hardware) -> None:
    """Raises UserError where the machine can't do what was asked for."""
    if asked.startswith("fp8") and (obstacle := why_no_fp8(hardware)):
        raise UserError(f"model.base_gemm {asked}: {obstacle}; use model.base_gemm: auto")


def choose_base_gemm(asked: str, linears: Sequence[torch.nn.Linear], fused: str, hardware: Hardware) -> tuple[str, str]:
    """(kind of `BaseGemm`, reason). linears: frozen layers of the base that fused layers multiply with; none: no layer
    is fused, for the reason `fused`. Raises UserError where what was asked for can't be done.
    """
    wanted = AUTO if asked == "auto" else asked
    if wanted == "bf16":
        return "bf16", f"products of the base in {hardware.dtype}: asked for"
    check_base_gemm(asked, hardware)
    obstacle = why_no_fp8(hardware) or why_not_linears(linears, fused)
    if obstacle and asked != "auto":
        raise UserError(f"model.base_gemm {asked}: {obstacle}; use model.base_gemm: auto")
    if obstacle:
        return "bf16", f"products of the base in {hardware.dtype}: {obstacle}"
    what = "both products" if wanted == "fp8" else "the gradient of the input"
    return wanted, f"{wanted}: {what} of the base's linear layers in e4m3, adapters in bf16"


def why_no_fp8(hardware: Hardware) -> str:
    """Empty if a machine multiplies in 8 bits."""
    if not hardware.fp8:
        return (
            f"products in 8 bits need Triton and a GPU of compute capability 8.9 (Ada, Hopper) or later, and this is "
            f"{hardware.device_name}"
        )
    return "" if hardware.dtype == "bf16" else f"products in 8 bits come out in bf16, not in {hardware.dtype}"


def why_not_linears(linears: Sequence[torch.nn.Linear], fused: str) -> str:
    if not linears:
        return f"products in 8 bits are for fused layers, and none is ({fused})"
    sizes = {size for linear in linears for size in (linear.in_features, linear.out_features)}
    odd = min((size for size in sizes if size % MULTIPLE), default=None)
    return f"a linear layer has {odd} features, no multiple of {MULTIPLE}" if odd else ""
