"""Causal attention for packed rows: documents of one row never see each other.

Each backend is registered with transformers by `register_attention`. A call that carries `cu_seqlens` (training,
scoring) runs the backend on documents; one that does not (generation with a cache and left padding) runs
transformers' own SDPA with the mask it built, so no mode has to be switched.

Shapes: T tokens of all documents, H query heads, K key/value heads (K divides H), D head size.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from revinst.model.hardware import is_deterministic

Kernel = Callable[..., Tensor]


def flash(q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, seq_lens: list[int]) -> Tensor:
    """flash-attn's variable-length kernel. q [T, H, D]; k, v [T, K, D] -> [T, H, D].

    Its backward adds into the gradient of q in the order in which blocks finish, unless it is asked for one order.
    """
    from flash_attn import flash_attn_varlen_func

    longest, options = max(seq_lens), {"softmax_scale": scale, "causal": True}
    if is_deterministic():  # older ones have no such argument
        options["deterministic"] = True
    return flash_attn_varlen_func(q, k, v, cu_seqlens, cu_seqlens, longest, longest, **options)


def varlen(q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, seq_lens: list[int]) -> Tensor:
    """PyTorch's variable-length kernel; it wants as many key heads as query heads.

    It asks itself whether its backward must be deterministic (ATen's `_flash_attention_backward`).
    """
    from torch.nn.attention.varlen import varlen_attn

    longest, groups = max(seq_lens), q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    out = varlen_attn(q, k, v, cu_seqlens, cu_seqlens, longest, longest, scale=scale, window_size=(-1, 0))
    assert isinstance(out, Tensor)
    return out


def by_document(
    q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, seq_lens: list[int], *, dense: Kernel
) -> Tensor:
    """A dense kernel on each document, or on all at once where they are equally long (full rows)."""
    if len(set(seq_lens)) == 1:
        rows = (len(seq_lens), seq_lens[0])
        return dense(q.unflatten(0, rows), k.unflatten(0, rows), v.unflatten(0, rows), scale).flatten(0, 1)
    split = zip(q.split(seq_lens), k.split(seq_lens), v.split(seq_lens), strict=True)
    return torch.cat([dense(qd[None], kd[None], vd[None], scale)[0] for qd, kd, vd in split])


def dense_sdpa(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """q [B, S, H, D]; k, v [B, S, K, D] -> [B, S, H, D]."""
    groups = q.shape[2] // k.shape[2]
    if groups > 1 and not reads_shared_heads(q.device):
        k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2)


def reads_shared_heads(device: torch.device) -> bool:
    """Whether SDPA has a kernel for fewer key heads than query heads; before Ampere it would compute whole matrices."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def dense_eager(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The textbook: softmax over a causal score matrix, in fp32. The reference for the others."""
    groups = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * scale  # [B, H, S, S]
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    weights = scores.masked_fill(future, float("-inf")).softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v)


KERNELS: dict[str, Kernel] = {
    "flash": flash,
    "varlen": varlen,
    "sdpa": partial(by_document, dense=dense_sdpa),
    "eager": partial(by_document, dense=dense_eager),
}


def rows_by_sdpa(kernel: Kernel) -> Kernel:
    """SDPA for documents of one length (full rows), the given kernel for others.

    On Hopper SDPA is cuDNN's: 1.9 ms forward and backward for 6 rows of 2,048 where flash-attn 2 takes 2.9 ms.
    """

    def choose(q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, seq_lens: list[int]) -> Tensor:
        same = len(set(seq_lens)) == 1
        return (KERNELS["sdpa"] if same else kernel)(q, k, v, scale, cu_seqlens, seq_lens)

    return choose


def attention_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    kernel: Kernel,
    scaling: float | None = None,
    cu_seqlens: Tensor | None = None,
    seq_lens: list[int] | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query [1, H, T, D], key and value [1, K, T, D] -> [1, T, H, D]."""
    if cu_seqlens is None or seq_lens is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [T, heads, D]
    if v.dtype != q.dtype or k.dtype != q.dtype:  # under autocast RoPE leaves q and k in fp32, v in bf16
        q, k = q.to(v.dtype), k.to(v.dtype)
    return kernel(q, k, v, scale, cu_seqlens, seq_lens)[None], None


def padding_mask(**kwargs) -> Tensor | None:
    """transformers' mask interface: packed rows come without a 2D mask and need none; left padding needs SDPA's."""
    return None if kwargs.get("attention_mask") is None else sdpa_mask(**kwargs)


def register_attention(backend: str) -> str:
    """Registers a backend with transformers; returns the name for `attn_implementation`."""
    # transformers takes any name with "flash" in it for one of its own kernels and tries to fetch that one
    name = f"revinst_{backend.replace('flash', 'fa')}"
    AttentionInterface.register(name, partial(attention_forward, kernel=KERNELS[backend]))
    AttentionMaskInterface.register(name, padding_mask)
    return name
