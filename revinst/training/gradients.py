"""Gradients over all ranks: averaged after a step's last backward, and clipped."""

from collections.abc import Iterable, Iterator

import lightning as L
import torch
from torch import Tensor

from revinst.model.sharding import gather_whole
from revinst.training.strategies import ShardedStrategy

BUCKET = 1 << 24  # gradients that cross ranks together: 64 MiB in fp32


def average_gradients(parameters: Iterable[torch.nn.Parameter], trainer: L.Trainer) -> None:
    """Over all ranks, after the last backward of a step; FSDP2 has done it in that backward.

    DDP would do it there too, and a rank that ran out of memory in it would leave the others waiting for ever.
    """
    if trainer.world_size == 1 or isinstance(trainer.strategy, ShardedStrategy):
        return
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
        views = [grad.view(-1) for grad in bucket]
        flat = torch.cat(views)
        torch.distributed.all_reduce(flat)
        torch._foreach_copy_(views, list((flat / trainer.world_size).split([view.numel() for view in views])))


def buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive ones, until they hold `BUCKET` elements."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(t.numel() for t in bucket) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float, loss_scale: float = 1.0) -> Tensor:
    """torch's, with the norm over all shares as an ordinary tensor. loss_scale: is taken out of the gradients first."""
    parameters = list(parameters)
    if loss_scale != 1.0:
        torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], 1 / loss_scale)
    return gather_whole(torch.nn.utils.clip_grad_norm_(parameters, max_norm))
