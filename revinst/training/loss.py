"""The loss that is trained. Edit it here."""

from revinst.data.batch import MicroBatch
from revinst.model.network import Network
from revinst.training.metrics import Losses


def summed_loss(network: Network, batch: MicroBatch) -> Losses:
    """Of a micro-batch: the sum of -log p(target), fp32; the step divides by the targets of all its micro-batches.

    For another loss of each target's logits give `network.token_loss` a function of yours in the place of `token_nll`.
    What is to be logged besides goes with it, as out of Lightning's `training_step`: `{"loss": ..., "kl": ...}`. Each
    is a sum over the micro-batch's targets, 0 where it has none; the step divides all alike, by the targets of all
    micro-batches and ranks, and logs train/kl, as validation logs val/kl.
    """
    return network.token_nll(batch).sum()
