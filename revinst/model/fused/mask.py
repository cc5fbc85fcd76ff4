"""Dropout masks that are computed, not stored: each element's fate is a hash of its index and a seed."""

from dataclasses import dataclass

import torch
from torch import Tensor

SITES = 4  # LoRA inputs of a layer: of q, k, v; of o; of gate, up; of down


@dataclass(frozen=True, slots=True)
class Mask:
    """Which elements of a LoRA input dropout keeps. Forward and backward compute the same from the same seeds.

    Attributes:
        p: chance that an element is dropped.
        seeds: two numbers below 2^31.
    """

    p: float
    seeds: tuple[int, int]

    @property
    def threshold(self) -> int:
        """An element is dropped if the upper 24 bits of its hash are below this."""
        return int(self.p * 2**24)

    @property
    def scale(self) -> float:
        return 1.0 / (1.0 - self.p)


def draw_masks(p: float) -> list[Mask]:
    """A mask for each LoRA input of one layer, from torch's CPU generator: its state is in every checkpoint."""
    seeds = torch.randint(2**31, (SITES, 2)).tolist()
    return [Mask(p, (first, second)) for first, second in seeds]


def scales(mask: Mask, rows: int, columns: int, device: torch.device) -> Tensor:
    """[rows, columns] fp32: 0 where the element is dropped, else 1 / (1 - p).

    The hash is "lowbias32" (https://github.com/skeeto/hash-prospector) in 64-bit integers, with a second seed half way.
    """
    bits = torch.arange(rows * columns, device=device) ^ mask.seeds[0]
    bits = ((bits ^ (bits >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    bits = bits ^ mask.seeds[1]
    bits = ((bits ^ (bits >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    bits = bits ^ (bits >> 16)
    return ((bits >> 8) >= mask.threshold).view(rows, columns).float() * mask.scale
