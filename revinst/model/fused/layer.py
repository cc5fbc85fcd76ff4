"""A Llama decoder layer as one autograd function with a backward of its own.

    x1 = x + o(attention(rope(q(n1(x))), rope(k(n1(x))), v(n1(x))))        n1, n2: RMSNorm
    out = x1 + down(silu(gate(n2(x1))) * up(n2(x1)))

Kept for backward: x, x1; q, k, v and what attention itself keeps; gate, up; the adapters' u. Norms, the gated product
and dropout masks are computed again. A lean layer keeps x and x1 alone, in host memory, and also computes q, k, v,
attention, gate and up again; o and down never.

Shapes: T tokens, h features, f features of the MLP, H query and K key heads of D.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from revinst.model.fused.host_memory import HostMemory
from revinst.model.fused.linear import Group, Projection
from revinst.model.fused.mask import SITES, Mask, draw_masks

PARTS = ("qkv", "o", "gate_up", "down")  # the groups of projections, in the order of their parameters and masks


@dataclass(frozen=True, slots=True)
class Segments:
    """Where the documents of a micro-batch lie, and their rotary angles. cos, sin [T, D]."""

    cos: Tensor
    sin: Tensor
    cu_seqlens: Tensor
    seq_lens: list[int]


@dataclass(slots=True)
class Attention:
    """q [T, H, D], k and v [T, K, D] as leaves of the graph that ends in out [T, H, D]."""

    inputs: tuple[Tensor, Tensor, Tensor]
    out: Tensor
    u: Tensor | None
    u_o: Tensor | None = None


@dataclass(slots=True)
class Mlp:
    """gate, up [T, f]."""

    gate: Tensor
    up: Tensor
    u: Tensor | None
    u_down: Tensor | None = None


@dataclass(slots=True)
class Pass:
    """One forward and backward of one layer: its circumstances, and what forward left for backward."""

    segments: Segments
    masks: list[Mask] | list[None]
    record: bool
    weights: dict[str, list[Tensor]]
    inputs: tuple[Tensor, Tensor] | None = None  # x, x1
    attention: Attention | None = None
    mlp: Mlp | None = None

    def mask(self, part: str) -> Mask | None:
        return self.masks[PARTS.index(part)]


class FusedLayer:
    """Stands in for `layer.forward`. A call with a cache or without documents (generation) runs the plain one.

    Args:
        kernel: one of `attention.KERNELS`.
        ops: `kernels`, or `twins`.
        host: where a lean layer parks its inputs; None keeps all activations.
    """

    def __init__(self, layer: Any, number: int, kernel: Callable[..., Tensor], ops: ModuleType, host: HostMemory | None):
        self.layer, self.plain = layer, layer.forward
        self.number, self.kernel, self.ops, self.host = number, kernel, ops, host
        attention, mlp = layer.self_attn, layer.mlp
        self.head_dim, self.scaling = attention.head_dim, attention.scaling
        self.norms = [(n.weight, n.variance_epsilon) for n in (layer.input_layernorm, layer.post_attention_layernorm)]
        modules = {
            "qkv": [attention.q_proj, attention.k_proj, attention.v_proj],
            "o": [attention.o_proj],
            "gate_up": [mlp.gate_proj, mlp.up_proj],
            "down": [mlp.down_proj],
        }
        self.groups = {part: Group([Projection(m) for m in modules[part]], ops) for part in PARTS}
        self.p = max(dropout_of(module) for part in PARTS for module in modules[part])

    @property
    def parameters(self) -> list[Tensor]:
        return [p for part in PARTS for projection in self.groups[part].projections for p in projection.parameters]

    def __call__(
        self,
        hidden_states: Tensor,
        *args: Any,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        past_key_values: Any = None,
        cu_seqlens: Tensor | None = None,
        seq_lens: list[int] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        if past_key_values is not None or cu_seqlens is None or seq_lens is None or position_embeddings is None:
            kwargs |= {"position_embeddings": position_embeddings, "past_key_values": past_key_values}
            return self.plain(hidden_states, *args, cu_seqlens=cu_seqlens, seq_lens=seq_lens, **kwargs)
        segments = Segments(position_embeddings[0][0], position_embeddings[1][0], cu_seqlens, seq_lens)
        masks = draw_masks(self.p) if self.p and self.layer.training else [None] * SITES
        options = (self, segments, masks, torch.is_grad_enabled())
        return LayerFunction.apply(hidden_states[0], options, *self.parameters)[None]  # type: ignore[no-untyped-call]

    # ---- forward -------------------------------------------------------------------------------------------------

    def forward(self, now: Pass, x: Tensor) -> Tensor:
        """x [T, h] -> out [T, h]; leaves in `now` what backward needs."""
        keep = now.record and self.host is None
        attention = self.attend(now, x, keep)
        y, attention.u_o = self.attention_output(now, attention.out.detach().flatten(1))
        now.attention = attention if keep else None
        del attention
        weight, eps = self.norms[1]
        room = self.groups["gate_up"].room(x)  # [T, h + r]
        x1, dropped = self.ops.add_norm(x, y, weight, eps, room[:, : x.shape[1]], now.mask("gate_up"))
        del y
        mlp = self.gate_and_up(now, room, dropped)
        del room, dropped
        out, mlp.u_down = self.mlp_output(now, mlp)
        out += x1
        if keep:
            now.inputs, now.mlp = (x, x1), mlp
        elif now.record and self.host is not None:
            self.host.park(self.number, [x, x1])
        return out

    def attend(self, now: Pass, x: Tensor, record: bool) -> Attention:
        """n1, q, k, v, RoPE and attention, the latter with a graph to differentiate."""
        group, (weight, eps) = self.groups["qkv"], self.norms[0]
        room = group.room(x)  # [T, h + r]
        dropped = self.ops.norm(x, weight, eps, room[:, : x.shape[1]], now.mask("qkv"))
        outputs, u = group.forward(room, dropped, now.weights["qkv"])
        del room, dropped
        q, k, v = (y.view(len(x), -1, self.head_dim) for y in outputs)  # [T, H or K, D]
        for y in (q, k):
            self.ops.rotate(y, now.segments.cos, now.segments.sin, y)
        for y in (q, k, v):
            y.requires_grad_(record)
        with torch.set_grad_enabled(record):
            out = self.kernel(q, k, v, self.scaling, now.segments.cu_seqlens, now.segments.seq_lens)
        return Attention((q, k, v), out, u)

    def attention_output(self, now: Pass, out: Tensor) -> tuple[Tensor, Tensor | None]:
        """o of attention's output [T, H D] -> [T, h], and u."""
        group = self.groups["o"]
        room = group.room(out)
        room[:, : group.inputs] = out
        (y,), u = group.forward(room, self.ops.drop(out, now.mask("o")), now.weights["o"])
        return y, u

    def gate_and_up(self, now: Pass, room: Tensor, dropped: Tensor) -> Mlp:
        (gate, up), u = self.groups["gate_up"].forward(room, dropped, now.weights["gate_up"])
        return Mlp(gate, up, u)

    def mlp_output(self, now: Pass, mlp: Mlp) -> tuple[Tensor, Tensor | None]:
        """down of the gated product -> [T, h], and u."""
        group = self.groups["down"]
        room = group.room(mlp.gate)  # [T, f + r]
        dropped = self.ops.swiglu(mlp.gate, mlp.up, room[:, : group.inputs], now.mask("down"))
        (y,), u = group.forward(room, dropped, now.weights["down"])
        return y, u

    # ---- backward ------------------------------------------------------------------------------------------------

    def backward(self, now: Pass, grad: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Gradient of out [T, h] -> gradients of x [T, h] and of `parameters`."""
        if now.inputs is None:
            assert self.host is not None
            x, x1 = self.host.take(self.number)
        else:
            x, x1 = now.inputs
        now.inputs = None
        x1_grad, mlp_grads = self.backward_mlp(now, x1, grad)
        x_grad, attention_grads = self.backward_attention(now, x, x1_grad)
        return x_grad, attention_grads + mlp_grads

    def backward_mlp(self, now: Pass, x1: Tensor, grad: Tensor) -> tuple[Tensor, list[Tensor]]:
        """-> gradient of x1, as the filled `grad_room` of o; those of the adapters."""
        group, down, (weight, eps) = self.groups["gate_up"], self.groups["down"], self.norms[1]
        mask, down_mask = now.mask("gate_up"), now.mask("down")
        if now.mlp is None:
            room = group.room(x1)
            now.mlp = self.gate_and_up(now, room, self.ops.norm(x1, weight, eps, room[:, : x1.shape[1]], mask))
            del room
        mlp, now.mlp = now.mlp, None
        y_grad = down.grad_room(grad)  # [T, h + r]
        y_grad[:, : down.outputs] = grad
        product_grad = down.backward(y_grad, now.weights["down"], down_mask is not None)
        grads = group.grad_room(grad)  # [T, 2 f + 2 r]
        gate_grad, up_grad = grads[:, : group.outputs].chunk(2, dim=1)
        dropped = self.ops.swiglu_backward(mlp.gate, mlp.up, product_grad, down_mask, gate_grad, up_grad)
        u, u_down = mlp.u, mlp.u_down
        del mlp, product_grad, gate_grad, up_grad
        u_down = down.down(dropped, now.weights["down"]) if u_down is None else u_down
        down_grads = down.adapter_grads(y_grad, dropped, u_down)
        del y_grad, dropped
        normed_grad = group.backward(grads, now.weights["gate_up"], mask is not None)
        x1_grad = self.groups["o"].grad_room(grad)  # [T, h + r]
        dropped = self.ops.norm_backward(x1, weight, eps, normed_grad, grad, mask, x1_grad[:, : x1.shape[1]])
        return x1_grad, group.adapter_grads(grads, dropped, u) + down_grads

    def backward_attention(self, now: Pass, x: Tensor, x1_grad: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x1_grad: `grad_room` of o, filled -> gradient of x, those of the adapters."""
        group, o, (weight, eps) = self.groups["qkv"], self.groups["o"], self.norms[0]
        attention = now.attention or self.attend(now, x, record=True)
        now.attention = None
        base_grad, lora_grad = o.backward(x1_grad, now.weights["o"], now.mask("o") is not None)
        out_grad = self.ops.add_masked(base_grad, lora_grad, now.mask("o"))
        dropped = self.ops.drop(attention.out.detach().flatten(1), now.mask("o"))
        u_o = o.down(dropped, now.weights["o"]) if attention.u_o is None else attention.u_o
        o_grads = o.adapter_grads(x1_grad, dropped, u_o)
        del dropped, base_grad, lora_grad
        qkv_grads = torch.autograd.grad(attention.out, attention.inputs, out_grad.view(attention.out.shape))
        u = attention.u
        del attention, out_grad
        grads = group.grad_room(x)  # [T, (H + 2 K) D + 3 r]
        q, k, v = (grads[:, slice(*columns)].unflatten(1, (-1, self.head_dim)) for columns in group.columns)
        for out, y in zip((q, k), qkv_grads[:2], strict=True):
            self.ops.rotate(y, now.segments.cos, now.segments.sin, out, backward=True)
        v.copy_(qkv_grads[2])
        del qkv_grads
        normed_grad = group.backward(grads, now.weights["qkv"], now.mask("qkv") is not None)
        x_grad = torch.empty_like(x)
        residual = x1_grad[:, : x.shape[1]]
        dropped = self.ops.norm_backward(x, weight, eps, normed_grad, residual, now.mask("qkv"), x_grad)
        return x_grad, group.adapter_grads(grads, dropped, u) + o_grads


class LayerFunction(torch.autograd.Function):
    """(x [T, h], (FusedLayer, Segments, masks, record), adapter parameters) -> out [T, h]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, options: tuple, *parameters: Tensor) -> Tensor:
        layer, segments, masks, record = options
        with torch.autocast(x.device.type, enabled=False):
            now = Pass(segments, masks, record, cast_weights(layer, parameters, x.dtype))
            out = layer.forward(now, x.detach())
        now.weights = {}
        ctx.layer, ctx.now = layer, now
        ctx.save_for_backward(*parameters)  # autograd refuses a backward after they changed
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        parameters, now = ctx.saved_tensors, ctx.now
        assert now is not None, "one backward a forward: it frees what the forward kept"
        ctx.now = None
        with torch.autocast(grads[0].device.type, enabled=False):
            now.weights = cast_weights(ctx.layer, parameters, grads[0].dtype)
            x_grad, parameter_grads = ctx.layer.backward(now, grads[0])
        return x_grad, None, *(g.to(p.dtype) for g, p in zip(parameter_grads, parameters, strict=True))


def cast_weights(layer: FusedLayer, parameters: tuple[Tensor, ...], dtype: torch.dtype) -> dict[str, list[Tensor]]:
    """The adapters' weights in the dtype of the computation, by part of the layer."""
    weights = iter(p.detach().to(dtype) for p in parameters)
    return {
        part: [next(weights) for projection in layer.groups[part].projections for _ in projection.parameters]
        for part in PARTS
    }


def dropout_of(module: Any) -> float:
    """Dropout of a projection's adapter; 0 without one."""
    dropouts = getattr(module, "lora_dropout", None)
    return float(getattr(dropouts["default"], "p", 0.0)) if dropouts else 0.0
