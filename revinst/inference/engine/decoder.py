"""A Llama or Mistral laid out for writing: one pass for whole prompts, one for a token of each sequence, on one cache.

Query, key and value weights are one matrix, gate and up another. Where memory allows they are unpacked to 16 bits once,
the adapter added in fp32 and rounded once; else 4-bit weights are unpacked at each use and the adapter stays apart.

Shapes: T tokens of all prompts, n sequences, L layers, h features, H query heads and K key heads of D, S positions, P
of them of a prefix, V vocabulary.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from revinst.data.batch import put
from revinst.inference.engine.cache import Cache
from revinst.model.attention import BACKENDS
from revinst.model.fused.adapter import cast_adapters
from revinst.model.fused.attention_block import window_of
from revinst.model.fused.linear import Group
from revinst.model.fused.projection import read_projection
from revinst.model.fused.support import load_ops, why_not
from revinst.model.network import Network

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaModel

STATIC_ROPE = ("default", "linear", "llama3")  # angles that do not depend on how long the text became


def why_not_decoder(network: Network) -> str:
    """Why there is no `Decoder` of it; empty if there is."""
    if obstacle := why_not_device(network.device):
        return obstacle
    obstacle = next((obstacle for layer in network.layers if (obstacle := why_not(layer))), "")
    if obstacle:
        return obstacle
    rope = getattr(network.decoder.rotary_emb, "rope_type", "default")
    if rope not in STATIC_ROPE:
        return f"its rotary angles are {rope}"
    return "its head has a bias" if getattr(network.head, "bias", None) is not None else ""


def why_not_device(device: torch.device) -> str:
    return "" if device.type in ("cuda", "cpu") else f"slots are for CUDA GPUs and CPUs, and this is {device.type}"


class Linears:
    """Linear layers that read one input, as one matrix of merged weights or as the packed ones with their adapter."""

    def __init__(self, modules: list[torch.nn.Linear], ops: ModuleType, like: Tensor, dense: bool):
        group = Group([read_projection(module) for module in modules], ops)
        parameters = [p for part in group.projections for p in part.parameters]
        (adapter,) = cast_adapters([group.projections], parameters, like)
        self.group, self.adapter, self.weight = group, adapter, None
        self.sizes = [part.outputs for part in group.projections]
        if dense:
            self.weight = like.new_empty(group.outputs, group.inputs)
            for part, columns in zip(group.projections, group.columns, strict=True):
                ops.fill_base(part.base, self.weight[columns])
                if part.rank:
                    a, b = (p.detach().to(like.dtype) for p in part.parameters)
                    self.weight[columns].addmm_(b, a, alpha=part.scale)  # a GEMM sums in fp32 and rounds once

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        """x [n, K] -> outputs [n, N_i], views of one tensor or tensors of their own."""
        if self.weight is not None:
            return F.linear(x, self.weight).split(self.sizes, dim=1)
        buffer, left = self.group.buffer(x)
        left.copy_(x)
        return self.group.forward(buffer, x, self.adapter)[0]


class Layer:
    def __init__(self, layer: "LlamaDecoderLayer", ops: ModuleType, like: Tensor, dense: bool):
        attention, mlp = layer.self_attn, layer.mlp
        self.qkv = Linears([attention.q_proj, attention.k_proj, attention.v_proj], ops, like, dense)
        self.o = Linears([attention.o_proj], ops, like, dense)
        self.gate_up = Linears([mlp.gate_proj, mlp.up_proj], ops, like, dense)
        self.down = Linears([mlp.down_proj], ops, like, dense)
        self.norms = [(n.weight, n.variance_epsilon) for n in (layer.input_layernorm, layer.post_attention_layernorm)]


class Decoder:
    """Args:
    network: a Llama or Mistral, with its adapter on or off; its weights are copied where `dense`.
    attention: one of `attention.BACKENDS`, for prompts.
    """

    def __init__(self, network: Network, attention: str, dense: bool):
        decoder, config = cast("LlamaModel", network.decoder), network.base.config
        self.embedding, self.head, self.rotary = decoder.embed_tokens, network.head, decoder.rotary_emb
        self.like = self.embedding.weight
        self.device, self.dtype = self.like.device, self.like.dtype
        self.ops, self.attention, self.dense = load_ops(self.device), BACKENDS[attention], dense
        layers = [cast("LlamaDecoderLayer", layer) for layer in network.layers]
        self.layers = [Layer(layer, self.ops, self.like, dense) for layer in layers]
        self.norm = (decoder.norm.weight, decoder.norm.variance_epsilon)
        first = layers[0].self_attn
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self.scale, self.window = first.head_dim, first.scaling, window_of(layers[0])

    @property
    def cache_bytes(self) -> int:
        """Of one position of one slot."""
        return 2 * len(self.layers) * self.key_heads * self.head_dim * self.dtype.itemsize

    def new_cache(self, slots: int, positions: int) -> Cache:
        """positions: S, the longest prompt with all that is written after it."""
        shape = (len(self.layers), 2, slots, self.key_heads, positions, self.head_dim)
        cos, sin = self.rotary(self.like[:1, None], torch.arange(positions, device=self.device)[None])
        angles = cos[0].contiguous(), sin[0].contiguous()
        return Cache(torch.zeros(shape, dtype=self.dtype, device=self.device), angles, self.scale, self.window)

    def shared_prefix(self, prompts: Sequence[list[int]]) -> Tensor | None:
        """Keys and values [L, 2, K, P, D] of what all prompts begin with, such as a template's first lines."""
        if len(prompts) < 4 or self.attention.after_prefix is None:
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
        masks = self.window is not None and self.window < skip + max(lengths)
        extras = {"window": self.window} if masks else {}
        if prefix is not None:
            cache.write_prefix(prefix, slots)

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            cache.rotate_and_write(number, (q, k, v), owners, places)
            if prefix is None or self.attention.after_prefix is None:
                return self.attention.packed(q, k, v, self.scale, cu_seqlens, lengths, **extras)
            k, v = (
                put_before(part.transpose(0, 1), x, lengths) for part, x in zip(prefix[number], (k, v), strict=True)
            )
            return self.attention.after_prefix(q, k, v, self.scale, cu_seqlens, lengths, **extras)

        hidden = self.forward(ids, attend)
        return self.head(self.normed(hidden[ends - 1]))

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

        return self.head(self.normed(self.forward(tokens, attend)))

    def forward(self, ids: Tensor, attend: Callable[..., Tensor]) -> Tensor:
        """ids [T] -> hidden states [T, h] before the last norm."""
        x = self.embedding(ids)
        delta = torch.zeros_like(x)
        for number, layer in enumerate(self.layers):
            x, normed = self.add_norm(x, delta, layer.norms[0])
            q, k, v = (part.unflatten(1, (-1, self.head_dim)) for part in layer.qkv(normed))
            (delta,) = layer.o(attend(number, q, k, v).flatten(1))
            x, normed = self.add_norm(x, delta, layer.norms[1])
            gate, up = layer.gate_up(normed)
            product = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
            self.ops.swiglu(gate, up, product, None)
            (delta,) = layer.down(product)
        return x + delta

    def add_norm(self, x: Tensor, delta: Tensor, norm: tuple[Tensor, float]) -> tuple[Tensor, Tensor]:
        total, normed = self.ops.add_norm(x, delta, *norm, torch.empty_like(x), None)
        return total, normed

    def normed(self, x: Tensor) -> Tensor:
        return self.ops.norm(x, *self.norm, torch.empty_like(x), None)


def put_before(prefix: Tensor, x: Tensor, lengths: list[int]) -> Tensor:
    """prefix [P, K, D] before each document of x [T, K, D] -> [T + n P, K, D]."""
    return torch.cat([part for document in x.split(lengths) for part in (prefix, document)])
