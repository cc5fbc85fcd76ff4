"""x -> down(act(gate(n(x))) * up(n(x))), as `description` has it; forward and backward.

Shapes: T tokens, h features, f features of the MLP.
"""

from dataclasses import dataclass
from types import ModuleType

from torch import Tensor

from revinst.model.fused.adapter import Adapter
from revinst.model.fused.description import Description
from revinst.model.fused.linear import Group
from revinst.model.fused.mask import Mask
from revinst.model.fused.stream import Entry, Exit


@dataclass(slots=True)
class Gated:
    """gate, up [T, f]; the u of both and of down."""

    gate: Tensor
    up: Tensor
    u: Tensor
    u_down: Tensor | None = None


class MlpBlock:
    def __init__(self, description: Description, groups: tuple[Group, Group], ops: ModuleType):
        self.gate_up, self.down = groups
        self.entry, self.exit = (
            Entry(description.before_mlp, ops),
            Exit(description.after_mlp, description.residual, ops),
        )
        self.activation, self.ops = description.activation, ops

    def add_and_gate(self, x: Tensor, delta: Tensor, adapter: Adapter, mask: Mask | None) -> tuple[Tensor, Gated]:
        """x1 = x + delta, and its gate and up."""
        buffer, normed = self.gate_up.buffer(x)
        x1, dropped = self.entry.add_and_read(x, delta, normed, mask)
        return x1, self.gated(buffer, dropped, adapter)

    def gate(self, x1: Tensor, adapter: Adapter, mask: Mask | None) -> Gated:
        """gate and up once more."""
        buffer, normed = self.gate_up.buffer(x1)
        return self.gated(buffer, self.entry.read(x1, normed, mask), adapter)

    def gated(self, buffer: Tensor, dropped: Tensor, adapter: Adapter) -> Gated:
        outputs, u = self.gate_up.forward(buffer, dropped, adapter)
        gate, up = outputs if len(outputs) == 2 else outputs[0].chunk(2, dim=1)
        return Gated(gate, up, u)

    def project(self, gated: Gated, adapter: Adapter, mask: Mask | None) -> Tensor:
        """down of the gated product -> [T, h]; notes its u."""
        buffer, product = self.down.buffer(gated.gate)  # [T, f + r]
        dropped = self.ops.glu(gated.gate, gated.up, self.activation, product, mask)
        (y,), gated.u_down = self.down.forward(buffer, dropped, adapter)
        return y

    def backward_down(
        self, grad: Tensor, y: Tensor | None, gated: Gated, adapter: Adapter, mask: Mask | None
    ) -> tuple[Tensor, list[Tensor]]:
        """`grad_buffer` of gate and up, filled, and gradients of down's adapter.

        grad: of the stream [T, h]. y: what `project` gave, where `exit` keeps it.
        """
        y_buffer, y_grad = self.down.grad_buffer(grad)  # [T, h + r]
        self.exit.backward(grad, y, y_grad)
        product_grad = self.down.backward(y_buffer, adapter, mask is not None)
        buffer, left = self.gate_up.grad_buffer(grad)  # [T, 2 f + R]
        gate_grad, up_grad = left.chunk(2, dim=1)
        dropped = self.ops.glu_backward(gated.gate, gated.up, self.activation, product_grad, mask, (gate_grad, up_grad))
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
        dropped = self.entry.backward(x1, (*normed_grad, residual), mask, out)
        return self.gate_up.adapter_grads(buffer, dropped, u)
