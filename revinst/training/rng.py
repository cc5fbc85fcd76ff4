"""The random generators that training draws from."""

import random
from typing import Any

import numpy as np
import torch


def collect_rng() -> dict[str, Any]:
    """This rank's states; plain types and tensors, so that loading runs no code."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.array(keys, dtype=np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def fold_in_rank(rank: int) -> None:
    """Other dropout masks on each rank of a run that starts; the first one's are those of a run alone."""
    if rank:
        torch.manual_seed(torch.initial_seed() + rank)


def restore_rng(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state.get("cuda") is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
