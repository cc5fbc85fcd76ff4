"""x -> down(silu(gate(n(x))) * up(n(x))), n: RMSNorm; forward and backward.

Shapes: T tokens, h features, f features of the MLP.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from torch import Tensor

from revinst.model.fused.adapter import Adapter
from revinst.model.fused.linear import Group
from revinst.model.fused.mask import Mask
from revinst.model.fused.projection import Projection

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer


@dataclass(slots=True)
class Gated:
    """gate, up [T, f]; the u of both and of down."""

    gate: Tensor
    up: Tensor
    u: Tensor
    u_down: Tensor | None = None


class MlpBlock:
    """projections: of gate, up and down."""

    def __init__(self, layer: "LlamaDecoderLayer", projections: Sequence[Projection], ops: ModuleType):
        norm = layer.post_attention_layernorm
        self.gate_up, self.down = Group(projections[:2], ops), Group(projections[2:], ops)
        self.norm, self.eps = norm, norm.variance_epsilon
        self.ops = ops

    def add_and_gate(self, x: Tensor, delta: Tensor, adapter: Adapter, mask: Mask | None) -> tuple[Tensor, Gated]:
        """x1 = x + delta, and its gate and up."""
        buffer, normed = self.gate_up.buffer(x)
        x1, dropped = self.ops.add_norm(x, delta, self.norm.weight, self.eps, normed, mask)
        (gate, up), u = self.gate_up.forward(buffer, dropped, adapter)
        return x1, Gated(gate, up, u)

    def gate(self, x1: Tensor, adapter: Adapter, mask: Mask | None) -> Gated:
        """gate and up once more."""
        buffer, normed = self.gate_up.buffer(x1)
        dropped = self.ops.norm(x1, self.norm.weight, self.eps, normed, mask)
        (gate, up), u = self.gate_up.forward(buffer, dropped, adapter)
        return Gated(gate, up, u)

    def project(self, gated: Gated, adapter: Adapter, mask: Mask | None) -> Tensor:
        """down of the gated product -> [T, h]; notes its u."""
        buffer, product = self.down.buffer(gated.gate)  # [T, f + r]
        dropped = self.ops.swiglu(gated.gate, gated.up, product, mask)
        (y,), gated.u_down = self.down.forward(buffer, dropped, adapter)
        return y

    def backward_down(
        self, grad: Tensor, gated: Gated, adapter: Adapter, mask: Mask | None
    ) -> tuple[Tensor, list[Tensor]]:
        """`grad_buffer` of gate and up, filled, and gradients of down's adapter. grad: of the block's output [T, h]."""
        y_buffer, y_grad = self.down.grad_buffer(grad)  # [T, h + r]
        self.ops.place(grad, y_grad, None)
        product_grad = self.down.backward(y_buffer, adapter, mask is not None)
        buffer, left = self.gate_up.grad_buffer(grad)  # [T, 2 f + R]
        gate_grad, up_grad = left.chunk(2, dim=1)
        dropped = self.ops.swiglu_backward(gated.gate, gated.up, product_grad, mask, (gate_grad, up_grad))
        u_down = self.down.shrink(dropped, adapter) if gated.u_down is None else gated.u_down
        return buffer, self.down.adapter_grads(y_buffer, dropped, u_down)

    def backward_gate_up(
        self,
        x1: Tensor,
        u: Tensor,
        grads: tuple[Tensor, Tensor],
        *,
        adapter: Adapter,
        mask: Mask | None,
        out: Tensor,
    ) -> list[Tensor]:
        """Writes the gradient of x1 [T, h] into out; returns those of gate's and up's adapters.

        grads: gate's and up's filled `grad_buffer`, and that of the residual that passes by the block.
        """
        buffer, residual = grads
        normed_grad = self.gate_up.backward(buffer, adapter, mask is not None)
        dropped = self.ops.norm_backward(x1, self.norm.weight, self.eps, (*normed_grad, residual), mask, out)
        return self.gate_up.adapter_grads(buffer, dropped, u)
