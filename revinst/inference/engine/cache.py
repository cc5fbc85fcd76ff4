"""Keys and values of the sequences that are being written, each in a slot of its own.

Shapes: L layers, N slots, S positions, P of them of a prefix, T tokens, n sequences (slots 0 to n - 1), H query
heads and K key heads of D.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from revinst.inference.engine.cached import load_ops
from revinst.model.fused.description import Description


class Cache:
    """data: [L, 2, N, K, S, D], keys and values: what one head of one sequence attends to lies in one piece.

    angles: cos and sin [S, D] of each layer. layers: what they are.
    """

    def __init__(self, data: Tensor, angles: Sequence[tuple[Tensor, Tensor]], layers: Sequence[Description]):
        self.data, self.angles, self.layers, self.ops = data, angles, layers, load_ops(data.device)
        self.slots = torch.arange(data.shape[2], device=data.device)

    @property
    def num_slots(self) -> int:
        return self.data.shape[2]

    @property
    def num_positions(self) -> int:
        return self.data.shape[4]

    def write_prefix(self, prefix: Tensor, slots: Sequence[int]) -> None:
        """prefix [L, 2, K, P, D] to the first positions of some slots."""
        for slot in slots:
            self.data[:, :, slot, :, : prefix.shape[3]] = prefix

    def rotate_and_write(self, layer: int, parts: Sequence[Tensor], slots: Tensor, places: Tensor) -> None:
        """RoPE of q and k in place; then k and v of token t go to slots[t], position places[t].

        parts: q [T, H, D], k and v [T, K, D].
        """
        self.ops.rotate_and_write(parts, self.angles[layer], self.data[layer], slots, places)

    def attend(self, layer: int, q: Tensor, lengths: Tensor, longest: int) -> Tensor:
        """q [n, H, D] of slots 0 to n - 1 -> [n, H, D]. Each to its first lengths [n] + 1 positions, at most `longest`;
        of them to the last that the layer's window holds.
        """
        what = self.layers[layer]
        window = self.num_positions if what.window is None else what.window
        return self.ops.attend(q, self.data[layer], lengths, longest, what.scaling, (window, what.soft_cap))

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        """The first `length` positions of one slot to others."""
        for target in targets:
            self.data[:, :, target, :, :length] = self.data[:, :, source, :, :length]
