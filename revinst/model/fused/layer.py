"""A decoder layer as one autograd function with a backward of its own.

    x1 = x + attention block(x)
    out = x1 + MLP block(x1)

Kept for backward: x, x1; q, k, v and what attention itself keeps; gate, up; the adapters' u; what each block gave where
a norm follows it. Norms, the gated product and dropout masks are computed again. An offloaded layer keeps x, x1 and
what blocks gave alone, in host memory, and also computes q, k, v, attention, gate and up again; o and down never.

Shapes: T tokens, h features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from revinst.model.fused.adapter import Adapter, cast_adapters, cast_grads
from revinst.model.fused.attention_block import Attended, AttentionBlock, Segments
from revinst.model.fused.description import Description, describe, modules_of, why_not_now
from revinst.model.fused.fp8 import BaseGemm, LayerGemm
from revinst.model.fused.host_memory import HostMemory
from revinst.model.fused.linear import Group
from revinst.model.fused.mask import SITES, Mask, draw_masks
from revinst.model.fused.mlp_block import Gated, MlpBlock
from revinst.model.fused.projection import Projection, read_projection

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer


@dataclass(slots=True)
class LayerPass:
    """One forward and backward of one layer: its circumstances, and what forward left for backward."""

    blocks: "Blocks"
    at: Segments
    masks: list[Mask | None]
    record: bool
    kept: list[Tensor] | None = None  # x, x1; where norms follow the blocks also what these gave
    offloaded: list[Tensor] | None = None  # the same in host memory
    attended: Attended | None = None
    gated: Gated | None = None


class Blocks:
    """A layer's parts with its projections as they were read; of them all, one dropout p.

    products: of q, k and v; of o; of gate and up; of down.
    """

    def __init__(self, what: Description, products: list[Group], kernel: Callable[..., Tensor], ops: ModuleType):
        self.groups = [group.projections for group in products]
        self.projections = [projection for group in self.groups for projection in group]
        self.p = max(projection.p for projection in self.projections)
        qkv, o, gate_up, down = products
        self.attention = AttentionBlock(what, (qkv, o), kernel, ops)
        self.mlp = MlpBlock(what, (gate_up, down), ops)


class FusedLayer:
    """Stands in for `layer.forward`. A call with a cache or without documents (generation) runs the plain one, and so
    does one in which PEFT's layers would do what can't be fused (several adapters at once, say).

    Args:
        kernel: one of `attention.KERNELS`.
        ops: `kernels`, or `reference`.
        host: takes the inputs of an offloaded layer; None keeps all activations.
        gemm: how the base's products are taken, in training mode.
    """

    def __init__(
        self,
        layer: "LlamaDecoderLayer",
        number: int,
        kernel: Callable[..., Tensor],
        ops: ModuleType,
        host: HostMemory | None,
        *,
        gemm: BaseGemm = BaseGemm(),  # noqa: B008  (frozen)
    ):
        self.layer, self.number, self.host = layer, number, host
        self.gemm, self.exact = LayerGemm(gemm, ops), True
        self.plain: Callable[..., Tensor] = layer.forward
        self.what, self.kernel, self.ops = describe(layer), kernel, ops
        self.blocks: Blocks | None = None

    def __call__(
        self,
        hidden_states: Tensor,
        *args: object,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        past_key_values: object = None,
        cu_seqlens: Tensor | None = None,
        seq_lens: list[int] | None = None,
        **kwargs: object,
    ) -> Tensor:
        is_cached = past_key_values is not None or position_embeddings is None
        if is_cached or cu_seqlens is None or seq_lens is None or (blocks := self.read_blocks()) is None:
            kwargs |= {"position_embeddings": position_embeddings, "past_key_values": past_key_values}
            return self.plain(hidden_states, *args, cu_seqlens=cu_seqlens, seq_lens=seq_lens, **kwargs)
        assert position_embeddings is not None
        masks: list[Mask | None] = [*draw_masks(blocks.p)] if blocks.p else [None] * SITES
        parameters = [p for projection in blocks.projections for p in projection.parameters]
        # With the adapters switched off nothing is trained: such a pass leaves nothing behind for a backward.
        record = torch.is_grad_enabled() and any(x.requires_grad for x in (hidden_states, *parameters))
        at = Segments(position_embeddings[0][0], position_embeddings[1][0], cu_seqlens, seq_lens)
        now = LayerPass(blocks, at, masks, record)
        return LayerFunction.apply(hidden_states[0], self, now, *parameters)[None]

    def read_blocks(self) -> Blocks | None:
        """Those of the last call, unless a projection has changed since. None: as they are, they can't be fused."""
        groups, obstacle = read_layer(self.layer, self.what)
        if obstacle:
            return None
        exact = not self.layer.training or is_merged(self.layer, self.what)
        if self.blocks is None or self.exact != exact or self.blocks.groups != groups:
            self.exact = exact
            self.blocks = Blocks(self.what, self.gemm.groups(groups, exact), self.kernel, self.ops)
        return self.blocks

    def forward(self, x: Tensor, now: LayerPass, adapters: list[Adapter]) -> Tensor:
        """x [T, h] -> out [T, h]; leaves in `now` what backward needs."""
        attention, mlp = now.blocks.attention, now.blocks.mlp
        qkv, o, gate_up, down = zip(adapters, now.masks, strict=True)
        keep = now.record and self.host is None
        attended = attention.attend(x, now.at, *qkv, record=keep)
        y = attention.project(attended, *o)
        now.attended = attended if keep else None
        del attended
        x1, gated = mlp.add_and_gate(x, attention.exit.delta(y), *gate_up)
        kept = [x, x1, *([y] if attention.exit.keeps else [])]
        del y
        z = mlp.project(gated, *down)
        out = mlp.exit.delta(z)
        out += x1
        if mlp.exit.keeps:
            kept.append(z)
        if keep:
            now.kept, now.gated = kept, gated
        elif now.record and self.host is not None:
            now.offloaded = self.host.offload(self.number, kept)
        return out

    def backward(self, grad: Tensor, now: LayerPass, adapters: list[Adapter]) -> tuple[Tensor, list[Tensor]]:
        """Gradient of out [T, h] -> gradients of x [T, h] and of `parameters`, those of B still to be scaled."""
        attention, mlp = now.blocks.attention, now.blocks.mlp
        qkv, o, gate_up, down = zip(adapters, now.masks, strict=True)
        if now.kept is None:
            assert self.host is not None and now.offloaded is not None
            now.kept = self.host.take(self.number, now.offloaded)
        x, x1, *outputs = now.kept
        now.kept = None
        y, z = outputs or (None, None)
        gated, now.gated = now.gated or mlp.gate(x1, *gate_up), None
        gate_up_buffer, down_grads = mlp.backward_down(grad, z, gated, *down)
        u = gated.u
        del gated, z, outputs
        o_buffer, y_grad = attention.o.grad_buffer(grad)
        x1_grad = y_grad if attention.exit.is_plain else torch.empty_like(x1)
        adapter, mask = gate_up
        gate_up_grads = mlp.backward_gate_up(x1, u, (gate_up_buffer, grad), adapter=adapter, mask=mask, out=x1_grad)
        del gate_up_buffer, x1
        if not attention.exit.is_plain:
            attention.exit.backward(x1_grad, y, y_grad)
        del y
        attended, now.attended = now.attended or attention.attend(x, now.at, *qkv, record=True), None
        out_grad, o_grads = attention.backward_o(o_buffer, attended, *o)
        adapter, mask = qkv
        x_grad, qkv_grads = attention.backward_qkv(
            x, attended, (out_grad, x1_grad), at=now.at, adapter=adapter, mask=mask
        )
        return x_grad, qkv_grads + o_grads + gate_up_grads + down_grads


class LayerFunction(torch.autograd.Function):
    """(x [T, h], FusedLayer, LayerPass, adapter parameters) -> out [T, h]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FusedLayer, now: LayerPass, *parameters: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            out = layer.forward(x.detach(), now, cast_adapters(now.blocks.groups, list(parameters), x))
        ctx.layer, ctx.now = layer, now
        ctx.save_for_backward(*parameters)  # autograd refuses a backward after they changed
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        parameters, now, layer = list(ctx.saved_tensors), ctx.now, ctx.layer
        assert now is not None, "one backward a pass: it frees what the forward kept"
        ctx.now = None
        with torch.autocast(grads[0].device.type, enabled=False):
            groups = now.blocks.groups
            adapters = cast_adapters(groups, parameters, grads[0])
            x_grad, adapter_grads = layer.backward(grads[0], now, adapters)
            return x_grad, None, None, *cast_grads(groups, adapter_grads, parameters)


def read_layer(layer: "LlamaDecoderLayer", what: Description) -> tuple[list[list[Projection]], str]:
    """(projections of q, k, v; of o; of gate, up; of down, why they can't be fused as they are; empty if they can)."""
    if obstacle := why_not_now(layer, what):
        return [], obstacle
    groups = [[read_projection(module) for module in group] for group in modules_of(layer, what)]
    differ = len({projection.p for group in groups for projection in group if projection.rank}) > 1
    return groups, "its adapters differ in dropout" * differ


def is_merged(layer: "LlamaDecoderLayer", what: Description) -> bool:
    """Whether its weights are for the time being not the frozen base's."""
    return any(getattr(module, "merged", False) for group in modules_of(layer, what) for module in group)
