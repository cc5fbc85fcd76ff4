"""A base laid out for writing: one pass for whole prompts, one for a token of each sequence, on one cache.

What its layers compute is read as for training (`model/fused/description.py`). Query, key and value weights are one
matrix, gate and up another. Where memory allows they are unpacked to 16 bits once, the adapter added in fp32 and
rounded once; else 4-bit weights are unpacked at each use and the adapter stays apart. Of unpacked weights there may be
a copy in 8 bits, for prompts.

Shapes: T tokens of all prompts, n sequences, L layers, h features, H query heads and K key heads of D, S positions, P
of them of a prefix, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from revinst.data.batch import put
from revinst.inference.engine.cache import Cache
from revinst.model.attention import BACKENDS
from revinst.model.fused.adapter import cast_adapters
from revinst.model.fused.attention_block import norm_heads
from revinst.model.fused.description import describe, modules_of, read_norm
from revinst.model.fused.linear import Group
from revinst.model.fused.projection import read_projection
from revinst.model.fused.stream import Entry, Exit
from revinst.model.fused.support import load_ops
from revinst.model.network import Network

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaModel


@dataclass(frozen=True, slots=True)
class Layout:
    """dense: weights are unpacked once, the adapter added. fp8_prefill: and kept in e4m3 too, for prompts."""

    dense: bool
    fp8_prefill: bool = False


class Linears:
    """Linear layers that read one input, as one matrix of merged weights or as the packed ones with their adapter.

    sizes: features of its outputs.
    """

    def __init__(
        self, modules: list[torch.nn.Module], ops: ModuleType, like: Tensor, how: Layout, sizes: Sequence[int] = ()
    ):
        group = Group([read_projection(module) for module in modules], ops)
        parameters = [p for part in group.projections for p in part.parameters]
        (adapter,) = cast_adapters([group.projections], parameters, like)
        self.group, self.adapter, self.ops, self.weight = group, adapter, ops, None
        self.sizes = [*sizes] or [part.outputs for part in group.projections]
        self.fp8: tuple[Tensor, Tensor] | None = None
        if how.dense:
            self.weight, self.bias = like.new_empty(group.outputs, group.inputs), read_bias(group, like)
            for part, columns in zip(group.projections, group.columns, strict=True):
                ops.fill_base(part.base, self.weight[columns])
                if part.rank:
                    a, b = (p.detach().to(like.dtype) for p in part.parameters)
                    self.weight[columns].addmm_(b, a, alpha=part.scale)  # a GEMM sums in fp32 and rounds once
            if how.fp8_prefill:
                values, scale = ops.quantize_rows(self.weight)
                self.fp8 = values, scale.T

    def __call__(self, x: Tensor, is_prefill: bool) -> Sequence[Tensor]:
        """x [n, K] -> outputs [n, N_i], views of one tensor or tensors of their own."""
        if is_prefill and self.fp8 is not None:
            return self.ops.multiply_fp8(self.ops.quantize_rows(x), self.fp8, self.bias, x.dtype).split(
                self.sizes, dim=1
            )
        if self.weight is not None:
            return F.linear(x, self.weight, self.bias).split(self.sizes, dim=1)
        buffer, left = self.group.buffer(x)
        left.copy_(x)
        outputs = self.group.forward(buffer, x, self.adapter)[0]
        return outputs if len(outputs) == len(self.sizes) else outputs[0].split(self.sizes, dim=1)


def read_bias(group: Group, like: Tensor) -> Tensor | None:
    """[N]; None where no layer of the group has one."""
    biases = [part.base.bias for part in group.projections]
    if all(bias is None for bias in biases):
        return None
    parts = zip(biases, group.projections, strict=True)
    return torch.cat([like.new_zeros(p.outputs) if b is None else b.detach().to(like.dtype) for b, p in parts])


class Layer:
    def __init__(self, layer: "LlamaDecoderLayer", ops: ModuleType, like: Tensor, how: Layout):
        what = self.what = describe(layer)
        qkv, o, gate_up, down = modules_of(layer, what)
        self.qkv = Linears(qkv, ops, like, how, what.sizes)
        self.o, self.down = Linears(o, ops, like, how), Linears(down, ops, like, how)
        half = sum(read_projection(module).outputs for module in gate_up) // 2
        self.gate_up = Linears(gate_up, ops, like, how, (half, half))
        self.entries = Entry(what.before_attention, ops), Entry(what.before_mlp, ops)
        self.exits = Exit(what.after_attention, what.residual, ops), Exit(what.after_mlp, what.residual, ops)


class Decoder:
    """Args:
    network: one that `why_not_decoder` has nothing against, its adapter on or off; weights are copied where `dense`.
    attention: one of `attention.BACKENDS`, for prompts. fp8_prefill: see `Layout`; needs `dense`.
    """

    def __init__(self, network: Network, attention: str, dense: bool, fp8_prefill: bool = False):
        decoder = cast("LlamaModel", network.decoder)
        self.embedding, self.head, self.rotary = decoder.embed_tokens, network.head, decoder.rotary_emb
        self.scale, self.after_head = float(getattr(decoder, "embedding_multiplier", 1.0)), network.after_head
        self.like = self.embedding.weight
        self.device, self.dtype = self.like.device, self.like.dtype
        self.ops, self.attention, self.dense = load_ops(self.device), BACKENDS[attention], dense
        layers = [cast("LlamaDecoderLayer", layer) for layer in network.layers]
        how = Layout(dense, fp8_prefill)
        self.layers = [Layer(layer, self.ops, self.like, how) for layer in layers]
        self.norm = Entry(read_norm(decoder.norm), self.ops)
        self.head_dim = self.layers[0].what.head_dim
        self.key_heads = self.layers[0].qkv.sizes[1] // self.head_dim
        self.kinds: list[str] | None = getattr(network.base.config, "layer_types", None)

    @property
    def cache_bytes(self) -> int:
        """Of one position of one slot."""
        return 2 * len(self.layers) * self.key_heads * self.head_dim * self.dtype.itemsize

    def new_cache(self, slots: int, positions: int) -> Cache:
        """positions: S, the longest prompt with all that is written after it."""
        shape = (len(self.layers), 2, slots, self.key_heads, positions, self.head_dim)
        data = torch.zeros(shape, dtype=self.dtype, device=self.device)
        return Cache(data, self.angles(positions), [layer.what for layer in self.layers])

    def angles(self, positions: int) -> list[tuple[Tensor, Tensor]]:
        """cos and sin [S, D] of each layer; the same tensors where they are the same angles."""
        x, places = self.like[:1, None], torch.arange(positions, device=self.device)[None]
        kinds = getattr(self.rotary, "layer_types", [None])
        found = {kind: self.rotary(x, places, *([kind] if kind else [])) for kind in kinds}
        turned = {kind: (cos[0].contiguous(), sin[0].contiguous()) for kind, (cos, sin) in found.items()}
        cos, sin = next(iter(turned.values()))
        still = torch.ones_like(cos), torch.zeros_like(sin)
        kind_of = self.kinds if self.kinds and len(turned) > 1 else [*turned] * len(self.layers)
        return [turned[kind] if layer.what.turns else still for layer, kind in zip(self.layers, kind_of, strict=False)]

    def shared_prefix(self, prompts: Sequence[list[int]]) -> Tensor | None:
        """Keys and values [L, 2, K, P, D] of what all prompts begin with, such as a template's first lines."""
        if len(prompts) < 4 or self.attention.after_prefix is None or any(layer.what.soft_cap for layer in self.layers):
            return None
        first, last = min(prompts), max(prompts)
        most = min(map(len, prompts)) - 1
        length = next((n for n in range(most) if first[n] != last[n]), most)
        if length < 8:
            return None
        cache = self.new_cache(1, length)
        self.prefill([first[:length]], cache, [0])
        return cache.data[:, :, 0]

    def prefill(
        self, prompts: Sequence[list[int]], cache: Cache, slots: Sequence[int], prefix: Tensor | None = None
    ) -> Tensor:
        """Logits [n, V] after each prompt; keys and values go to these slots of the cache.

        prefix: `shared_prefix` of these prompts, which is then not computed again.
        """
        skip = 0 if prefix is None else prefix.shape[3]
        lengths = [len(prompt) - skip for prompt in prompts]
        counts = torch.tensor(lengths)
        ids = torch.tensor([token for prompt in prompts for token in prompt[skip:]])
        places = torch.cat([torch.arange(skip, skip + length) for length in lengths])
        ids, places, owners = self.put(torch.stack([ids, places, torch.tensor(slots).repeat_interleave(counts)]))
        ends = self.put(counts.cumsum(0))
        cu_seqlens = F.pad(ends, (1, 0)).int()
        longest = skip + max(lengths)
        if prefix is not None:
            cache.write_prefix(prefix, slots)

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            cache.rotate_and_write(number, (q, k, v), owners, places)
            what = self.layers[number].what
            extras, scaling = what.extras(longest), what.scaling
            if prefix is None or self.attention.after_prefix is None:
                return self.attention.packed(q, k, v, scaling, cu_seqlens, lengths, **extras)
            k, v = (
                put_before(part.transpose(0, 1), x, lengths) for part, x in zip(prefix[number], (k, v), strict=True)
            )
            return self.attention.after_prefix(q, k, v, scaling, cu_seqlens, lengths, **extras)

        hidden = self.forward(ids, attend, is_prefill=True)
        return self.logits(hidden[ends - 1])

    def put(self, values: Tensor) -> Tensor:
        return put(values, self.device)

    def step(self, tokens: Tensor, lengths: Tensor, cache: Cache, longest: int) -> Tensor:
        """Logits [n, V] after one more token of sequences 0 to n - 1. lengths [n]: positions each has in the cache.

        longest: no sequence has more positions than this, the new one included.
        """
        slots = cache.slots[: len(tokens)]

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            cache.rotate_and_write(number, (q, k, v), slots, lengths)
            return cache.attend(number, q, lengths, longest)

        return self.logits(self.forward(tokens, attend))

    def forward(self, ids: Tensor, attend: Callable[..., Tensor], *, is_prefill: bool = False) -> Tensor:
        """ids [T] -> hidden states [T, h] before the last norm."""
        x = self.embedding(ids)
        x = x if self.scale == 1 else x * self.scale
        delta = torch.zeros_like(x)
        for number, layer in enumerate(self.layers):
            x, normed = layer.entries[0].add_and_read(x, delta, torch.empty_like(x), None)
            q, k, v = (part.unflatten(1, (-1, self.head_dim)) for part in layer.qkv(normed, is_prefill))
            q, k = norm_heads(self.ops, q, layer.what.q_norm), norm_heads(self.ops, k, layer.what.k_norm)
            (delta,) = layer.o(attend(number, q, k, v).flatten(1), is_prefill)
            x, normed = layer.entries[1].add_and_read(x, layer.exits[0].delta(delta), torch.empty_like(x), None)
            gate, up = layer.gate_up(normed, is_prefill)
            product = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
            self.ops.glu(gate, up, layer.what.activation, product, None)
            (delta,) = layer.down(product, is_prefill)
            delta = layer.exits[1].delta(delta)
        return x + delta

    def logits(self, x: Tensor) -> Tensor:
        """x [n, h] before the last norm -> [n, V]."""
        logits = self.head(self.norm.read(x, torch.empty_like(x), None))
        return logits if self.after_head is None else self.after_head(logits.float())


def put_before(prefix: Tensor, x: Tensor, lengths: list[int]) -> Tensor:
    """prefix [P, K, D] before each document of x [T, K, D] -> [T + n P, K, D]."""
    return torch.cat([part for document in x.split(lengths) for part in (prefix, document)])
