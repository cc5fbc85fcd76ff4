"""Sums of what is logged, over micro-batches, batches and ranks, by torchmetrics."""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torchmetrics import Metric


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


def gather_states(state: Tensor, group: ProcessGroup | None = None) -> list[Tensor]:
    """Each rank's, on every rank. torchmetrics' own begins with a barrier (1.9.0): the host would wait there for the
    backward, and the device then for what the host has still to launch.
    """
    states = [torch.empty_like(state) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(states, state, group=group)
    return states
