"""The loss: the sum of next-token losses over the supervised positions. Edit it here."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_TOKENS = 1024  # logits of a chunk: 1024 x 32,000 x 4 bytes = 125 MiB in fp32


def summed_loss(hidden: Tensor, head: torch.nn.Module, targets: Tensor, target_index: Tensor) -> Tensor:
    """Sum of -log p(target) over a micro-batch, fp32.

    hidden: [1, T, d], the decoder's output. head: d -> vocabulary. targets: [1, T]. target_index: [num_targets], the
    positions that have a target; no other position gets logits. In training each chunk's gradient is taken right after
    its loss, so that logits are computed once and only one chunk's are in memory.
    """
    hidden = hidden[0].index_select(0, target_index)  # [num_targets, d]
    targets = targets[0].index_select(0, target_index)  # [num_targets]
    if len(target_index) == 0:
        return hidden.sum().float() * 0.0  # a rank without rows in this step still takes part in backward
    if torch.is_grad_enabled():
        assert not any(p.requires_grad for p in head.parameters()), "`ChunkedLoss` gives the head no gradient"
        return ChunkedLoss.apply(hidden, head, targets)
    chunks = zip(hidden.split(CHUNK_TOKENS), targets.split(CHUNK_TOKENS), strict=True)
    return torch.stack([chunk_loss(h, head, t) for h, t in chunks]).sum()


class ChunkedLoss(torch.autograd.Function):
    """(hidden [n, d], frozen head, targets [n]) -> sum of `chunk_loss`; its gradient is ready before backward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: torch.nn.Module, targets: Tensor) -> Tensor:
        losses, grad = [], torch.empty_like(hidden)
        for h, t, g in zip(*(x.split(CHUNK_TOKENS) for x in (hidden.detach(), targets, grad)), strict=True):
            with torch.enable_grad():
                loss = chunk_loss(h.requires_grad_(), head, t)
            g.copy_(torch.autograd.grad(loss, h)[0])
            losses.append(loss.detach())
        ctx.save_for_backward(grad)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = ctx.saved_tensors
        # The factor is one over thousands of targets: in fp16 it would be subnormal, in bf16 rounded to 8 bits.
        return torch.cat([(g.float() * grads[0]).to(g.dtype) for g in grad.split(CHUNK_TOKENS)]), None, None


def chunk_loss(hidden: Tensor, head: torch.nn.Module, targets: Tensor) -> Tensor:
    """hidden [n, d], targets [n] -> sum of -log p(target); the softmax in fp32."""
    return F.cross_entropy(head(hidden).float(), targets, reduction="sum")
