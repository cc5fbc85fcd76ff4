"""Kernels of causal attention on documents end to end; `attention.py` says which of them a backend is.

Beside the causal mask a base may ask for (`attention.Backend.knows` says which kernel has it)

    window      a token sees so many tokens, itself included
    soft_cap    scores become soft_cap * tanh(score / soft_cap)
    sinks [H]   a further score of each head in the softmax, of no token

Shapes: T tokens of all documents, H query heads, K key/value heads (K divides H), D head size; n documents, and P
positions of a prefix that they share.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Callable[..., Tensor]
Extra = int | float | Tensor  # a window, a soft cap, sinks


def flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    cu_seqlens: Tensor,
    seq_lens: list[int],
    *,
    window: int | None = None,
    soft_cap: float | None = None,
) -> Tensor:
    """flash-attn's variable-length kernel. q [T, H, D]; k, v [T, K, D] -> [T, H, D].

    Its backward adds into the gradient of q in the order in which blocks finish, unless it is asked for one order.
    """
    from flash_attn import flash_attn_varlen_func

    longest = max(seq_lens)
    options: dict[str, object] = {"softmax_scale": scale, "causal": True}
    if is_deterministic():  # older ones have no such argument
        options["deterministic"] = True
    if window is not None:
        options["window_size"] = (window - 1, 0)
    if soft_cap is not None:
        options["softcap"] = soft_cap
    return flash_attn_varlen_func(q, k, v, cu_seqlens, cu_seqlens, longest, longest, **options)


def flash_after_prefix(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    cu_seqlens: Tensor,
    lengths: list[int],
    *,
    window: int | None = None,
) -> Tensor:
    """flash-attn aligns the ends of queries and keys, so that each query sees the prefix and what is before it."""
    from flash_attn import flash_attn_varlen_func

    prefix = (len(k) - len(q)) // len(lengths)
    cu_keys = cu_seqlens + prefix * torch.arange(len(cu_seqlens), dtype=torch.int32, device=q.device)
    longest = max(lengths)
    options: dict[str, object] = {} if window is None else {"window_size": (window - 1, 0)}
    return flash_attn_varlen_func(
        q, k, v, cu_seqlens, cu_keys, longest, longest + prefix, softmax_scale=scale, causal=True, **options
    )


def varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    cu_seqlens: Tensor,
    seq_lens: list[int],
    *,
    window: int | None = None,
) -> Tensor:
    """PyTorch's variable-length kernel; it wants as many key heads as query heads.

    It asks itself whether its backward must be deterministic (ATen's `_flash_attention_backward`).
    """
    from torch.nn.attention.varlen import varlen_attn

    longest, groups = max(seq_lens), q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    before = -1 if window is None else window - 1
    out = varlen_attn(q, k, v, cu_seqlens, cu_seqlens, longest, longest, scale=scale, window_size=(before, 0))
    assert isinstance(out, Tensor)
    return out


def by_document(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    cu_seqlens: Tensor,
    seq_lens: list[int],
    *,
    dense: Kernel,
    **extras: Extra,
) -> Tensor:
    """A dense kernel on each document, or on all at once where they are equally long (full rows)."""
    if len(set(seq_lens)) == 1:
        rows = (len(seq_lens), seq_lens[0])
        return dense(q.unflatten(0, rows), k.unflatten(0, rows), v.unflatten(0, rows), scale, **extras).flatten(0, 1)
    split = zip(q.split(seq_lens), k.split(seq_lens), v.split(seq_lens), strict=True)
    return torch.cat([dense(qd[None], kd[None], vd[None], scale, **extras)[0] for qd, kd, vd in split])


def dense_sdpa(q: Tensor, k: Tensor, v: Tensor, scale: float, *, window: int | None = None) -> Tensor:
    """q [B, S, H, D]; k, v [B, S, K, D] -> [B, S, H, D]."""
    groups, mask = q.shape[2] // k.shape[2], None
    if window is not None and window < q.shape[1]:
        mask = ~hidden_tokens(q, window)
    # With a mask CUDA's fast kernels want as many key heads as query heads.
    if groups > 1 and (not reads_shared_heads(q.device) or (mask is not None and q.is_cuda)):
        k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out.transpose(1, 2)


def reads_shared_heads(device: torch.device) -> bool:
    """Whether SDPA has a kernel for fewer key heads than query heads; before Ampere it would compute whole matrices."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def sdpa_after_prefix(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    cu_seqlens: Tensor,
    lengths: list[int],
    *,
    window: int | None = None,
) -> Tensor:
    """A call a document."""
    prefix = (len(k) - len(q)) // len(lengths)
    mask = torch.ones(max(lengths), max(lengths) + prefix, dtype=torch.bool, device=q.device).tril(prefix)
    if window is not None:
        mask = mask.triu(prefix - window + 1)
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


def dense_eager(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    *,
    window: int | None = None,
    soft_cap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """The textbook: softmax over a causal score matrix, in fp32. The reference for the others."""
    return masked_eager(q, k, v, scale, hidden_tokens(q, window), soft_cap=soft_cap, sinks=sinks)


def hidden_tokens(q: Tensor, window: int | None) -> Tensor:
    """[S, S], True where a token of q [B, S, H, D] does not see another: a later one, or one before its window."""
    square = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool, device=q.device)
    return square.triu(1) if window is None else square.triu(1) | square.tril(-window)


def masked_eager(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    hidden: Tensor,
    *,
    soft_cap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """q [B, S, H, D]; k, v [B, N, K, D]; hidden, True where nothing is seen, broadcasts to [B, H, S, N]
    -> [B, S, H, D].
    """
    groups = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * scale  # [B, H, S, N]
    if soft_cap is not None:
        scores = soft_cap * (scores / soft_cap).tanh()
    scores = scores.masked_fill(hidden, float("-inf"))
    if sinks is not None:
        of_each = sinks.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, of_each], dim=-1)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)[..., : k.shape[1]]
    return torch.einsum("bhqk,bkhd->bqhd", weights, v)


def is_deterministic() -> bool:
    """Whether gradients must be the same bits each time: the Trainer's `deterministic: true`.

    Its `warn` promises nothing: PyTorch's own attention adds in any order then.
    """
    return torch.get_deterministic_debug_mode() == 2
