"""The loss: the sum of next-token losses over the supervised positions. Edit it here."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_TOKENS = 1024  # logits of a chunk: 1024 x 32,000 x 4 bytes = 125 MiB in fp32


def summed_loss(hidden: Tensor, head: torch.nn.Module, targets: Tensor, target_index: Tensor) -> Tensor:
    """Sum of -log p(target) over a micro-batch, fp32.

    hidden: [1, T, d], the decoder's output. head: d -> vocabulary. targets: [1, T]. target_index: [num_targets], the
    positions that have a target; no other position gets logits. Chunks recompute their logits in backward, so that
    only one chunk's are in memory.
    """
    hidden = hidden[0].index_select(0, target_index)  # [num_targets, d]
    targets = targets[0].index_select(0, target_index)  # [num_targets]
    if len(target_index) == 0:
        return hidden.sum().float() * 0.0  # a rank without rows in this step still takes part in backward
    losses = [
        checkpoint(chunk_loss, h, head, t, use_reentrant=False)
        for h, t in zip(hidden.split(CHUNK_TOKENS), targets.split(CHUNK_TOKENS), strict=True)
    ]
    return torch.stack(losses).sum()


def chunk_loss(hidden: Tensor, head: torch.nn.Module, targets: Tensor) -> Tensor:
    """hidden [n, d], targets [n] -> sum of -log p(target); the softmax in fp32."""
    return F.cross_entropy(head(hidden).float(), targets, reduction="sum")
