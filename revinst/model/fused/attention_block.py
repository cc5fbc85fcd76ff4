"""x -> o(attention(rope(q(n(x))), rope(k(n(x))), v(n(x)))), n: RMSNorm; forward and backward.

Shapes: T tokens, h features, H query and K key heads of D.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from revinst.model.fused.adapter import Adapter
from revinst.model.fused.linear import Group
from revinst.model.fused.mask import Mask
from revinst.model.fused.projection import Projection

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer


@dataclass(frozen=True, slots=True)
class Segments:
    """Where the documents of a micro-batch lie, and their rotary angles. cos, sin [T, D]."""

    cos: Tensor
    sin: Tensor
    cu_seqlens: Tensor
    seq_lens: list[int]


@dataclass(slots=True)
class Attended:
    """q [T, H, D], k and v [T, K, D] as leaves of the graph that ends in out [T, H, D]; the u of q, k, v and of o."""

    inputs: tuple[Tensor, Tensor, Tensor]
    out: Tensor
    u: Tensor
    u_o: Tensor | None = None


def window_of(layer: "LlamaDecoderLayer") -> int | None:
    """Tokens that a token of this layer sees, itself included; None: all before it. What else Mistral's layers are is
    Llama's.
    """
    is_mistral = type(layer).__name__ == "MistralDecoderLayer"
    return getattr(layer.self_attn.config, "sliding_window", None) if is_mistral else None


class AttentionBlock:
    """projections: of q, k, v and o."""

    def __init__(
        self,
        layer: "LlamaDecoderLayer",
        projections: Sequence[Projection],
        kernel: Callable[..., Tensor],
        ops: ModuleType,
    ):
        attention, norm = layer.self_attn, layer.input_layernorm
        self.qkv, self.o = Group(projections[:3], ops), Group(projections[3:], ops)
        self.norm, self.eps = norm, norm.variance_epsilon
        self.head_dim, self.scaling = attention.head_dim, attention.scaling
        self.kernel, self.ops, self.window = kernel, ops, window_of(layer)

    def attend(self, x: Tensor, at: Segments, adapter: Adapter, mask: Mask | None, record: bool) -> Attended:
        """Up to attention's output. record: with a graph to differentiate attention itself by."""
        buffer, normed = self.qkv.buffer(x)
        dropped = self.ops.norm(x, self.norm.weight, self.eps, normed, mask)
        outputs, u = self.qkv.forward(buffer, dropped, adapter)
        del buffer, normed, dropped
        q, k, v = (y.view(len(x), -1, self.head_dim) for y in outputs)  # [T, H or K, D]
        for y in (q, k):
            self.ops.rotate(y, at.cos, at.sin, y)
        for y in (q, k, v):
            y.requires_grad_(record)
        masks = self.window is not None and self.window < max(at.seq_lens)
        with torch.set_grad_enabled(record):
            extras = {"window": self.window} if masks else {}
            out = self.kernel(q, k, v, self.scaling, at.cu_seqlens, at.seq_lens, **extras)
        return Attended((q, k, v), out, u)

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
        u = attended.u
        attended.inputs = attended.out = None  # type: ignore[assignment]  # frees them before the next GEMM
        buffer, left = self.qkv.grad_buffer(x)  # [T, (H + 2 K) D + R]
        q, k, v = (left[:, columns] for columns in self.qkv.columns)
        for part, y in zip(parts[:2], (q, k), strict=True):
            self.ops.rotate(part, at.cos, at.sin, y.unflatten(1, (-1, self.head_dim)), backward=True)
        self.ops.place(parts[2].flatten(1), v, None)
        del parts, out_grad
        normed_grad = self.qkv.backward(buffer, adapter, mask is not None)
        x_grad = torch.empty_like(x)
        dropped = self.ops.norm_backward(x, self.norm.weight, self.eps, (*normed_grad, residual), mask, x_grad)
        return x_grad, self.qkv.adapter_grads(buffer, dropped, u)
