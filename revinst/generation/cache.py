"""Keys and values of the rows that are being written, each in a slot of its own.

Shapes: L layers, N slots, S positions, P of them of a prefix, n rows in use (slots 0 to n - 1), H query heads and K key
heads of D.
"""

from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor


class Cache:
    """data: [L, 2, N, S, K, D], keys and values."""

    def __init__(self, data: Tensor, scale: float):
        self.data, self.scale = data, scale
        self.has_flash = data.is_cuda and data.dtype != torch.float32 and find_spec("flash_attn") is not None

    @property
    def num_slots(self) -> int:
        return self.data.shape[2]

    @property
    def num_positions(self) -> int:
        return self.data.shape[3]

    def write_prefix(self, prefix: Tensor, rows: slice) -> None:
        """prefix [L, 2, P, K, D] to the first positions of some slots."""
        self.data[:, :, rows, : prefix.shape[2]] = prefix[:, :, None]

    def write(self, layer: int, rows: Tensor, places: Tensor, k: Tensor, v: Tensor) -> None:
        """k, v [T, K, D] to slots rows [T], positions places [T]."""
        self.data[layer, 0][rows, places] = k
        self.data[layer, 1][rows, places] = v

    def visible(self, lengths: Tensor, longest: int) -> Tensor | None:
        """[n, longest]: which positions a row attends to when it has `lengths` [n]; None where the kernel counts."""
        if self.has_flash:
            return None
        return torch.arange(longest, device=lengths.device) <= lengths[:, None]

    def append_and_attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, visible: Tensor | None
    ) -> Tensor:
        """Writes k, v [n, K, D] at lengths [n] and attends with q [n, H, D] to all up to there -> [n, H, D]."""
        keys, values = self.data[layer, 0, : len(q)], self.data[layer, 1, : len(q)]  # [n, S, K, D]
        if visible is None:
            from flash_attn import flash_attn_with_kvcache

            return flash_attn_with_kvcache(
                q[:, None], keys, values, k[:, None], v[:, None],
                cache_seqlens=lengths.int(), softmax_scale=self.scale, causal=True,
            )[:, 0]  # fmt: skip
        rows = torch.arange(len(q), device=q.device)
        keys[rows, lengths] = k
        values[rows, lengths] = v
        groups = q.unflatten(1, (keys.shape[2], -1))  # [n, K, H / K, D]: heads of one key as queries of one attention
        keys, values = (part[:, : visible.shape[1]].transpose(1, 2) for part in (keys, values))
        mask = visible[:, None, None].expand(-1, 1, groups.shape[2], -1)
        return F.scaled_dot_product_attention(groups, keys, values, attn_mask=mask, scale=self.scale).flatten(1, 2)

    def move(self, source: int, target: int, length: int) -> None:
        """Copies the first `length` positions of one slot to another."""
        self.data[:, :, target, :length] = self.data[:, :, source, :length]
