"""Rotary angles that depend on a text's length (`dynamic`, `longrope`), of each document by its own."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

BY_LENGTH = ("dynamic", "longrope")
Angles = tuple[Tensor, Tensor]  # cos and sin, [1, T, D]


def rotate_by_document(model: "PreTrainedModel") -> None:
    """Makes each document of a packed row get the angles that it would have alone; transformers (5.23) takes those of
    the longest, and `dynamic` those of the longest text that it has seen. In place; other bases stay as they are.
    """
    for module in model.modules():
        rope_type = getattr(module, "rope_type", None)
        kinds = rope_type.values() if isinstance(rope_type, dict) else [rope_type]
        by_length = hasattr(module, "inv_freq") and any(kind in BY_LENGTH for kind in kinds)
        if by_length and not isinstance(module.forward, partial):
            module.forward = partial(angles_by_document, module, module.forward)


def angles_by_document(
    rotary: torch.nn.Module, plain: Callable[..., Angles], x: Tensor, position_ids: Tensor, **kwargs: object
) -> Angles:
    """x: of the dtype and device that angles get. position_ids [1, T] of documents, which begin at 0, or a batch's."""
    starts = (position_ids[0] == 0).nonzero()[:, 0].tolist() if len(position_ids) == 1 else []
    ends = [*starts[1:], position_ids.shape[1]]
    lengths = [end - start for start, end in zip(starts, ends, strict=True)] if len(starts) > 1 else ends
    angles = []
    for positions in position_ids.split(lengths, dim=1):
        forget_longest(rotary)
        angles.append(plain(x, positions, **kwargs))
    cos, sin = (torch.cat(parts, dim=1) for parts in zip(*angles, strict=True))
    return cos, sin


def forget_longest(rotary: torch.nn.Module) -> None:
    if rotary.rope_type == "dynamic":
        rotary.max_seq_len_cached = rotary.original_max_seq_len
        kept, original = cast(Tensor, rotary.inv_freq), cast(Tensor, rotary.original_inv_freq)
        rotary.register_buffer("inv_freq", original.to(kept.device), persistent=False)


def trained_length(config: "PreTrainedConfig") -> float:
    """Tokens up to which no text's rotary angles depend on its length. Beyond, transformers (5.23) takes those of the
    longest text of a batch, and lays a cache out anew when the padded length says so.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else [kind for kind in rope.values() if isinstance(kind, dict)]
    lengths = [
        kind.get("original_max_position_embeddings") or config.max_position_embeddings
        for kind in kinds
        if kind.get("rope_type") in BY_LENGTH
    ]
    return min(lengths, default=float("inf"))
