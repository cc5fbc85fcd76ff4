"""Picking the next token: greedy, or a sample that depends on seed, prompt and place alone.

Shapes: n rows, V vocabulary.
"""

import hashlib
import json
from collections.abc import Sequence

import torch
from torch import Tensor


def row_keys(seed: int, prompts: Sequence[list[int]], device: torch.device) -> Tensor:
    """Two numbers below 2^31 for each prompt, int64 [n, 2]; the same for the same seed and prompt."""
    digests = [hashlib.sha256(json.dumps([seed, prompt]).encode()).digest() for prompt in prompts]
    pairs = [(int.from_bytes(d[:4]) >> 1, int.from_bytes(d[4:8]) >> 1) for d in digests]
    return torch.tensor(pairs, dtype=torch.int64, device=device).view(-1, 2)


def pick_tokens(
    logits: Tensor, temperature: float, top_p: float, keys: Tensor | None = None, steps: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(ids [n], log p of each under the model itself [n] fp32) from logits [n, V].

    keys [n, 2], steps [n]: of each row, for sampling. The token with the largest logit + Gumbel noise is a sample of
    the softmax, and noise that is a function of key, step and token is the same whatever else is decoded beside it.
    """
    logits = logits.float()
    log_p = logits.log_softmax(-1)
    if not temperature:
        ids = logits.argmax(-1)
    else:
        assert keys is not None and steps is not None
        scores = keep_nucleus(logits / temperature, top_p)
        ids = (scores + gumbel_noise(keys, steps, logits.shape[-1])).argmax(-1)
    return ids, log_p.gather(-1, ids[:, None])[:, 0]


def keep_nucleus(scores: Tensor, top_p: float) -> Tensor:
    """scores [n, V] with -inf at all but the fewest tokens whose probabilities reach top_p."""
    if top_p >= 1:
        return scores
    ordered, order = scores.sort(dim=-1, descending=True)
    p = ordered.softmax(dim=-1)
    ordered = ordered.masked_fill(p.cumsum(dim=-1) - p >= top_p, float("-inf"))
    return torch.empty_like(scores).scatter_(1, order, ordered)


def gumbel_noise(keys: Tensor, steps: Tensor, vocabulary: int) -> Tensor:
    """[n, V] fp32. The hash is `model/fused/mask.py`'s, of token and step under the row's key."""
    bits = torch.arange(vocabulary, device=keys.device) ^ keys[:, :1]
    bits = ((bits ^ (bits >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    bits = bits ^ keys[:, 1:] ^ ((steps[:, None] * 0x9E3779B1) & 0xFFFFFFFF)
    bits = ((bits ^ (bits >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    bits = ((bits ^ (bits >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    uniform = (((bits ^ (bits >> 15)) >> 8).float() + 0.5) / 2**24
    return -(-uniform.log()).log()
