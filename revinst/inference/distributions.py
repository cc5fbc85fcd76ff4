"""Next-token distributions at the places where a reference stands, and how far another model's are from them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from revinst.data.batch import collate_rows
from revinst.data.encoding import Documents
from revinst.inference.likelihood import batches_by_tokens
from revinst.model.network import Network


@torch.no_grad()
def target_log_p(network: Network, documents: Documents, tokens_per_batch: int = 2048) -> Iterator[Tensor]:
    """log p of every token, fp32 `[targets of a batch, V]`, batch by batch, documents isolated and in their order."""
    with network.in_eval_mode():
        for numbers in batches_by_tokens(documents.lengths, tokens_per_batch):
            yield network.target_log_p(collate_rows(documents, [numbers]).to(network.device))


def save_log_p(network: Network, documents: Documents, path: Path) -> np.ndarray:
    """All of `target_log_p` in a file of fp32, mapped: `[targets, V]`."""
    vocabulary = 0
    with path.open("wb") as file:
        for log_p in target_log_p(network, documents):
            vocabulary = log_p.shape[1]
            file.write(log_p.cpu().numpy().tobytes())
    return np.memmap(path, dtype=np.float32, mode="r").reshape(-1, vocabulary)


def divergences(reference: np.ndarray, network: Network, documents: Documents) -> np.ndarray:
    """KL(reference || network) in nats at each target, float64 `[targets]`. reference: of `save_log_p`."""
    values, start = [], 0
    for q in target_log_p(network, documents):
        p = torch.from_numpy(np.array(reference[start : start + len(q)])).to(q.device)
        values.append((p.exp().double() * (p.double() - q.double())).sum(-1).cpu().numpy())
        start += len(q)
    return np.concatenate(values) if values else np.empty(0)
