"""Next-token distributions at the places where a reference stands, and how far another model's are from them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from revinst.data.batch import collate_rows
from revinst.data.encoding import Documents
from revinst.generation.engine import inference_mode_of
from revinst.generation.likelihood import batches_by_tokens


@torch.no_grad()
def target_log_p(model: Any, documents: Documents, tokens_per_batch: int = 2048) -> Iterator[Tensor]:
    """log p of every token, fp32 `[targets of a batch, V]`, batch by batch, documents isolated and in their order."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    device = next(model.parameters()).device
    with inference_mode_of(model):
        for numbers in batches_by_tokens(documents.lengths, tokens_per_batch):
            batch = collate_rows(documents, [numbers]).to(device)
            hidden = base.get_decoder()(
                input_ids=batch.input_ids,
                position_ids=batch.position_ids,
                cu_seqlens=batch.cu_seqlens,
                seq_lens=batch.seq_lens,
                use_cache=False,
            ).last_hidden_state[0]
            yield base.get_output_embeddings()(hidden[batch.target_index]).float().log_softmax(-1)


def save_log_p(model: Any, documents: Documents, path: Path) -> np.ndarray:
    """All of `target_log_p` in a file of fp32, mapped: `[targets, V]`."""
    vocabulary = 0
    with path.open("wb") as file:
        for log_p in target_log_p(model, documents):
            vocabulary = log_p.shape[1]
            file.write(log_p.cpu().numpy().tobytes())
    return np.memmap(path, dtype=np.float32, mode="r").reshape(-1, vocabulary)


def divergences(reference: np.ndarray, model: Any, documents: Documents) -> np.ndarray:
    """KL(reference || model) in nats at each target, float64 `[targets]`. reference: of `save_log_p`."""
    values, start = [], 0
    for q in target_log_p(model, documents):
        p = torch.from_numpy(np.array(reference[start : start + len(q)])).to(q.device)
        values.append((p.exp().double() * (p.double() - q.double())).sum(-1).cpu().numpy())
        start += len(q)
    return np.concatenate(values) if values else np.empty(0)
