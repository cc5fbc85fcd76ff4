"""The loss that is trained. Edit it here."""

from torch import Tensor

from revinst.data.batch import MicroBatch
from revinst.model.network import Network


def summed_loss(network: Network, batch: MicroBatch) -> Tensor:
    """Of a micro-batch: the sum of -log p(target), fp32; the step divides by the targets of all its micro-batches.

    For another loss of each target's logits give `network.token_loss` a function of yours in the place of `token_nll`.
    """
    return network.token_nll(batch).sum()
