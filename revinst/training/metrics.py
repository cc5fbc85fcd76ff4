"""Sums of what is logged, over micro-batches, batches and ranks, by torchmetrics."""

from collections import defaultdict
from collections.abc import Mapping, MutableMapping
from functools import partial

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torchmetrics import Metric

# Of a micro-batch: the sum of its targets' losses, alone or as `loss` among other sums that are only logged.
Losses = Tensor | Mapping[str, Tensor]
TAKEN = {"grad_norm", "lr", "targets", "loss_scale"}  # what the loop logs itself


class Sum(Metric):
    """A sum in fp64, which Apple's GPUs lack, on this rank's device; `compute` adds the ranks', and nobody waits.

    torchmetrics' SumMetric looks for NaN, which waits for the device, or rounds to fp32 what it is given once it has
    been moved to one (1.9.0).
    """

    full_state_update = False
    total: Tensor

    def __init__(self, device: torch.device):
        super().__init__(dist_sync_fn=gather_states)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.add_state("total", torch.zeros((), dtype=dtype), dist_reduce_fx="sum")
        self.to(device)

    def update(self, value: Tensor | float) -> None:
        """value: a tensor of one element on the metric's device, or a number of the host."""
        self.total = self.total + value

    def compute(self) -> Tensor:
        return self.total

    def over_ranks(self, value: Tensor | float) -> Tensor:
        """The sum of this value alone, whatever was summed before."""
        self.reset()
        self.update(value)
        return self.compute()


class Means:
    """Losses by name, a target, over all that they were updated with and all ranks."""

    def __init__(self, device: torch.device):
        self.sums: defaultdict[str, Sum] = defaultdict(partial(Sum, device))
        self.targets = Sum(device)

    def update(self, losses: Losses, num_targets: int) -> None:
        for name, value in by_name(losses).items():
            self.sums[name].update(value)
        self.targets.update(num_targets)

    def compute(self) -> dict[str, Tensor]:
        targets = self.targets.compute().clamp(min=1)
        return {name: (self.sums[name].compute() / targets).float() for name in sorted(self.sums)}


def by_name(losses: Losses) -> Mapping[str, Tensor]:
    """Raises ValueError for a name that the log has already."""
    named = {"loss": losses} if isinstance(losses, Tensor) else losses
    if taken := TAKEN & named.keys():
        raise ValueError(f"train/{min(taken)} is logged by the loop itself; hand it on under another name")
    return named


def add_up(sums: MutableMapping[str, Tensor], losses: Mapping[str, Tensor]) -> None:
    """Raises ValueError for other names than before: ranks would wait for each other's for ever."""
    if sums and sums.keys() != losses.keys():
        raise ValueError(f"a micro-batch hands on {sorted(losses)}, the one before it {sorted(sums)}; hand on all")
    for name, value in losses.items():
        sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()


def gather_states(state: Tensor, group: ProcessGroup | None = None) -> list[Tensor]:
    """Each rank's, on every rank. torchmetrics' own begins with a barrier (1.9.0): the host would wait there for the
    backward, and the device then for what the host has still to launch.
    """
    states = [torch.empty_like(state) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(states, state, group=group)
    return states
