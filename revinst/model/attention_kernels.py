"""Kernels of causal attention on documents end to end; `attention.py` says which of them a backend is.

Shapes: T tokens of all documents, H query heads, K key/value heads (K divides H), D head size; n documents, and P
positions of a prefix that they share.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

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


def flash_after_prefix(q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, lengths: list[int]) -> Tensor:
    """flash-attn aligns the ends of queries and keys, so that each query sees the prefix and what is before it."""
    from flash_attn import flash_attn_varlen_func

    prefix = (len(k) - len(q)) // len(lengths)
    cu_keys = cu_seqlens + prefix * torch.arange(len(cu_seqlens), dtype=torch.int32, device=q.device)
    longest = max(lengths)
    return flash_attn_varlen_func(
        q, k, v, cu_seqlens, cu_keys, longest, longest + prefix, softmax_scale=scale, causal=True
    )


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


def sdpa_after_prefix(q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, lengths: list[int]) -> Tensor:
    """A call a document."""
    prefix = (len(k) - len(q)) // len(lengths)
    mask = torch.ones(max(lengths), max(lengths) + prefix, dtype=torch.bool, device=q.device).tril(prefix)
    longer = [length + prefix for length in lengths]
    outputs = []
    for q_part, k_part, v_part in zip(q.split(lengths), k.split(longer), v.split(longer), strict=True):
        queries, keys, values = (part.transpose(0, 1)[None] for part in (q_part, k_part, v_part))
        visible = mask[: len(q_part), : len(k_part)]
        out = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=visible, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        outputs.append(out[0].transpose(0, 1))
    return torch.cat(outputs)


def dense_eager(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The textbook: softmax over a causal score matrix, in fp32. The reference for the others."""
    groups = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * scale  # [B, H, S, S]
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    weights = scores.masked_fill(future, float("-inf")).softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v)


def is_deterministic() -> bool:
    """Whether gradients must be the same bits each time: the Trainer's `deterministic: true`.

    Its `warn` promises nothing: PyTorch's own attention adds in any order then.
    """
    return torch.get_deterministic_debug_mode() == 2
