"""Causal attention of documents after a prefix that they share, whose keys and values are there already.

Shapes: T tokens of n documents, P positions of the prefix, H query heads and K key heads of D.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def put_before(prefix: Tensor, x: Tensor, lengths: list[int]) -> Tensor:
    """prefix [P, K, D] before each document of x [T, K, D] -> [T + n P, K, D]."""
    return torch.cat([part for document in x.split(lengths) for part in (prefix, document)])


def flash(q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, lengths: list[int]) -> Tensor:
    """q [T, H, D]; k, v [T + n P, K, D] -> [T, H, D]."""
    from flash_attn import flash_attn_varlen_func

    prefix = (len(k) - len(q)) // len(lengths)
    cu_keys = cu_seqlens + prefix * torch.arange(len(cu_seqlens), dtype=torch.int32, device=q.device)
    longest = max(lengths)
    return flash_attn_varlen_func(
        q, k, v, cu_seqlens, cu_keys, longest, longest + prefix, softmax_scale=scale, causal=True
    )


def sdpa(q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, lengths: list[int]) -> Tensor:
    """The same, a call a document."""
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


PREFIXED = {"flash": flash, "sdpa": sdpa}
