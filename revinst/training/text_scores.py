"""How good texts that were written while training are: our scores of a row as a metric of torchmetrics."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from revinst.config.words import GENERATED_METRICS
from revinst.evaluation.scores import score_predictions
from revinst.training.metrics import gather_states


class TextScores(Metric):
    """Means of `GENERATED_METRICS` over the rows of all ranks that have them, as in a report's table."""

    full_state_update = False
    sums: Tensor  # these two `[metrics]`
    counts: Tensor

    def __init__(self, device: torch.device):
        super().__init__(dist_sync_fn=gather_states)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        for name in ("sums", "counts"):
            self.add_state(name, torch.zeros(len(GENERATED_METRICS), dtype=dtype), dist_reduce_fx="sum")
        self.to(device)

    def update(self, predictions: Sequence[str], references: Sequence[str]) -> None:
        """Of the same rows; of none on a rank that had no share."""
        scores = score_predictions(predictions, references)
        values = np.stack([scores[metric] for metric in GENERATED_METRICS])  # [metrics, rows]
        self.sums += torch.from_numpy(np.nansum(values, axis=1)).to(self.sums)
        self.counts += torch.from_numpy(np.isfinite(values).sum(axis=1)).to(self.counts)

    def compute(self) -> dict[str, Tensor]:
        """metric -> mean; without those that can't read any row's reference."""
        read = {metric: number for number, metric in enumerate(GENERATED_METRICS) if self.counts[number]}
        return {metric: self.sums[number] / self.counts[number] for metric, number in read.items()}
