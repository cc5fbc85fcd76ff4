"""Writing to a cache and attending to it, in plain PyTorch. `kernels` has the same functions in Triton.

Shapes: T tokens, n sequences (slots 0 to n - 1 of N), S positions of a slot, H query heads and K key heads of D.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from revinst.model.attention_kernels import masked_eager
from revinst.model.fused import reference

Extras = tuple[int, float | None]


def rotate_and_write(
    parts: Sequence[Tensor], angles: tuple[Tensor, Tensor], cache: Tensor, slots: Tensor, places: Tensor
) -> None:
    """RoPE of q and k in place by the angles of `places`; then k and v to `slots`, `places` of the cache.

    parts: q [T, H, D], k and v [T, K, D], of any row stride. angles: cos and sin [S, D]. cache: one layer's
    [2, N, K, S, D]. slots, places: int64 [T].
    """
    q, k, v = parts
    cos, sin = (part[places] for part in angles)
    reference.rotate(q, cos, sin, q)
    reference.rotate(k, cos, sin, k)
    cache[0][slots, :, places] = k
    cache[1][slots, :, places] = v


def attend(q: Tensor, cache: Tensor, lengths: Tensor, longest: int, scale: float, extras: Extras) -> Tensor:
    """Sequence i attends to the last `window` of its first lengths[i] + 1 positions -> [n, H, D].

    q: [n, H, D]. cache: [2, N, K, S, D]. lengths: int64 [n], all below `longest`. extras: window and soft cap.
    """
    window, soft_cap = extras
    keys, values = cache[:, : len(q), :, :longest]
    places, last = torch.arange(longest, device=q.device), lengths[:, None]
    visible = (places <= last) & (places > last - window)
    if soft_cap is not None:
        keys, values, hidden = keys.transpose(1, 2), values.transpose(1, 2), ~visible[:, None, None]
        return masked_eager(q[:, None], keys, values, scale, hidden, soft_cap=soft_cap)[:, 0]
    groups = q.unflatten(1, (keys.shape[1], -1))  # [n, K, H / K, D]: heads of one key as queries of one attention
    mask = visible[:, None, None].expand(-1, 1, groups.shape[2], -1)
    return F.scaled_dot_product_attention(groups, keys, values, attn_mask=mask, scale=scale).flatten(1, 2)
