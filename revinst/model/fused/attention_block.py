"""x -> o(attention(rope(norm(q(n(x)))), rope(norm(k(n(x)))), v(n(x)))), as `description` has it; forward and backward.

Shapes: T tokens, h features, H query and K key heads of D.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from revinst.model.fused.adapter import Adapter
from revinst.model.fused.description import Description, Norm
from revinst.model.fused.linear import Group, slices
from revinst.model.fused.mask import Mask
from revinst.model.fused.stream import Entry, Exit


@dataclass(frozen=True, slots=True)
class Segments:
    """Where the documents of a micro-batch lie, and their rotary angles. cos, sin [T, R]: R of a head turn."""

    cos: Tensor
    sin: Tensor
    cu_seqlens: Tensor
    seq_lens: list[int]


@dataclass(slots=True)
class Attended:
    """q [T, H, D], k and v [T, K, D] as leaves of the graph that ends in out [T, H, D]; the u of q, k, v and of o.

    raw: q and k before their norms, where they have some.
    """

    inputs: tuple[Tensor, Tensor, Tensor]
    out: Tensor
    u: Tensor
    raw: tuple[Tensor, Tensor] | None = None
    u_o: Tensor | None = None


class AttentionBlock:
    """groups: q, k and v; o."""

    def __init__(
        self,
        description: Description,
        groups: tuple[Group, Group],
        kernel: Callable[..., Tensor],
        ops: ModuleType,
    ):
        self.qkv, self.o = groups
        self.kernel, self.ops, self.what = kernel, ops, description
        self.entry = Entry(description.before_attention, ops)
        self.exit = Exit(description.after_attention, description.residual, ops)
        self.columns, self.head_dim = slices([*description.sizes]), description.head_dim
        self.norms = (description.q_norm, description.k_norm)

    def attend(self, x: Tensor, at: Segments, adapter: Adapter, mask: Mask | None, record: bool) -> Attended:
        """Up to attention's output. record: with a graph to differentiate attention itself by."""
        buffer, normed = self.qkv.buffer(x)
        dropped = self.entry.read(x, normed, mask)
        outputs, u = self.qkv.forward(buffer, dropped, adapter)
        del buffer, normed, dropped
        raw_q, raw_k, v = self.heads(outputs)
        q, k = (norm_heads(self.ops, y, norm) for y, norm in zip((raw_q, raw_k), self.norms, strict=True))
        if self.what.turns:
            for y in (q, k):
                turning = y[..., : at.cos.shape[1]]
                self.ops.rotate(turning, at.cos, at.sin, turning)
        q, k, v = (y.detach().requires_grad_(record) for y in (q, k, v))
        with torch.set_grad_enabled(record):
            out = self.kernel(
                q, k, v, self.what.scaling, at.cu_seqlens, at.seq_lens, **self.what.extras(max(at.seq_lens))
            )
        return Attended((q, k, v), out, u, (raw_q, raw_k) if any(self.norms) else None)

    def heads(self, outputs: list[Tensor]) -> list[Tensor]:
        """q [T, H, D], k and v [T, K, D] of one output or three."""
        if len(outputs) == 1:
            outputs = [outputs[0][:, columns] for columns in self.columns]
        return [y.unflatten(1, (-1, self.head_dim)) for y in outputs]

    def project(self, attended: Attended, adapter: Adapter, mask: Mask | None) -> Tensor:
        """o of attention's output -> [T, h]; notes its u."""
        out = attended.out.detach().flatten(1)  # [T, H D]
        buffer, left = self.o.buffer(out)
        (y,), attended.u_o = self.o.forward(buffer, self.ops.place(out, left, mask), adapter)
        return y

    def backward_o(
        self, grad: Tensor, attended: Attended, adapter: Adapter, mask: Mask | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Gradients of attention's output [T, H D] and of o's adapter. grad: o's filled `grad_buffer`."""
        out_grad = self.ops.add_masked(*self.o.backward(grad, adapter, mask is not None), mask)
        dropped = self.ops.drop(attended.out.detach().flatten(1), mask)
        u_o = self.o.shrink(dropped, adapter) if attended.u_o is None else attended.u_o
        return out_grad, self.o.adapter_grads(grad, dropped, u_o)

    def backward_qkv(
        self,
        x: Tensor,
        attended: Attended,
        grads: tuple[Tensor, Tensor],
        *,
        at: Segments,
        adapter: Adapter,
        mask: Mask | None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Gradients of x [T, h] and of q's, k's and v's adapters.

        grads: of attention's output, and of the residual that passes by the block.
        """
        out_grad, residual = grads
        parts = torch.autograd.grad(attended.out, attended.inputs, out_grad.view(attended.out.shape))
        u, raw = attended.u, attended.raw or (None, None)
        attended.inputs = attended.out = attended.raw = None  # type: ignore[assignment]  # frees them before the GEMM
        buffer, left = self.qkv.grad_buffer(x)  # [T, (H + 2 K) D + R]
        targets = [left[:, columns].unflatten(1, (-1, self.head_dim)) for columns in self.columns]
        for part, target, norm, y in zip(parts[:2], targets[:2], self.norms, raw, strict=True):
            self.backward_turned(part, at, target, norm, y)
        self.ops.place(parts[2].flatten(1), left[:, self.columns[2]], None)
        del parts, out_grad, raw
        normed_grad = self.qkv.backward(buffer, adapter, mask is not None)
        x_grad = torch.empty_like(x)
        dropped = self.entry.backward(x, (*normed_grad, residual), mask, x_grad)
        return x_grad, self.qkv.adapter_grads(buffer, dropped, u)

    def backward_turned(self, grad: Tensor, at: Segments, out: Tensor, norm: Norm | None, raw: Tensor | None) -> None:
        """Gradient of q's or k's projection [T, H, D] into out. grad: of what attention read."""
        turned = at.cos.shape[1] if self.what.turns else 0
        to = out if norm is None else (grad if grad.is_contiguous() else torch.empty_like(out))
        if turned:
            self.ops.rotate(grad[..., :turned], at.cos, at.sin, to[..., :turned], backward=True)
        if turned < self.head_dim and to is not grad:
            to[..., turned:].copy_(grad[..., turned:])
        if norm is not None:
            assert raw is not None
            if norm.width != self.head_dim:
                raw, to, out = raw.flatten(1), to.flatten(1), out.flatten(1)
            self.ops.norm_backward(raw, norm.read(), (to, None, None), None, out, again=False)


def norm_heads(ops: ModuleType, y: Tensor, norm: Norm | None) -> Tensor:
    """A norm of each head [T, H, D], or of all as one; y itself without one."""
    if norm is None:
        return y
    out = y.new_empty(y.shape)
    if norm.width == y.shape[2]:
        ops.norm(y, norm.read(), out, None)
    else:
        ops.norm(y.flatten(1), norm.read(), out.flatten(1), None)
    return out
