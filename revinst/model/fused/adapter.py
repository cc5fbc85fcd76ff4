"""An adapter's fp32 parameters in the dtype of a computation, and its gradients in theirs, in few kernel launches."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from revinst.model.fused.projection import Projection

Groups = Sequence[Sequence[Projection]]  # projections that read one input, side by side


@dataclass(frozen=True, slots=True)
class Adapter:
    """Of a group of projections.

    Attributes:
        a: [R, K], the A_i one below the other.
        b: s_i B_i [N_i, r_i] of each projection; r_i is 0 where it has no adapter.
    """

    a: Tensor
    b: list[Tensor]


def cast_adapters(groups: Groups, parameters: list[Tensor], x: Tensor) -> list[Adapter]:
    """Each group's adapter in the dtype and on the device of x. parameters: A, B, A, B, ... over all groups."""
    scales = [p.scale for group in groups for p in group if p.rank]
    sources = [p.detach() for p in parameters]
    if sources:
        sources[1::2] = torch._foreach_mul(sources[1::2], scales)
    sources = sources[::2] + sources[1::2]  # the A of a group next to each other
    flat = x.new_empty(sum(p.numel() for p in sources))
    parts = [part.view(p.shape) for part, p in zip(flat.split([p.numel() for p in sources]), sources, strict=True)]
    if sources:
        torch._foreach_copy_(parts, sources)
    b_parts, adapters, start = iter(parts[len(parts) // 2 :]), [], 0
    for group in groups:
        rank, inputs = sum(p.rank for p in group), group[0].inputs
        end = start + rank * inputs
        b = [next(b_parts) if p.rank else x.new_empty(p.outputs, 0) for p in group]
        adapters.append(Adapter(flat[start:end].view(rank, inputs), b))
        start = end
    return adapters


def cast_grads(groups: Groups, grads: list[Tensor], parameters: list[Tensor]) -> list[Tensor]:
    """The gradients of A, s B, A, s B, ... as those of `parameters`, A, B, A, B, ..."""
    scales = [p.scale for group in groups for p in group if p.rank]
    out = [torch.empty_like(p) for p in parameters]
    if out:
        torch._foreach_copy_(out, grads)
        torch._foreach_mul_(out[1::2], scales)
    return out
