"""Picking the next token: greedy, or a sample that depends on seed, prompt and place alone.

Shapes: n sequences, V vocabulary.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from revinst.inference.engine.stopping import Stopping


@dataclass(frozen=True, slots=True)
class Picking:
    """How the next token is picked, and what ends a sequence. temperature 0: greedy; top_k 0: of all tokens."""

    stopping: Stopping
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0


GREEDY = (-1, -1)  # the key of a sequence that is not sampled


def sequence_keys(seed: int, sequences: Sequence[tuple[list[int], int | None]]) -> Tensor:
    """Two numbers below 2^31 for each (prompt, number of its sample), int64 [n, 2]; the same for the same seed.

    GREEDY where the sample is None.
    """
    keys = [GREEDY if sample is None else sequence_key(seed, prompt, sample) for prompt, sample in sequences]
    return torch.tensor(keys, dtype=torch.int64).view(-1, 2)


def sequence_key(seed: int, prompt: list[int], sample: int) -> tuple[int, int]:
    name = [seed, prompt, sample] if sample else [seed, prompt]
    digest = hashlib.sha256(json.dumps(name).encode()).digest()
    return int.from_bytes(digest[:4]) >> 1, int.from_bytes(digest[4:8]) >> 1


def pick_tokens(
    logits: Tensor, picking: Picking, keys: Tensor | None = None, steps: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(ids [n], log p of each under the model itself [n] fp32) from logits [n, V].

    keys [n, 2], steps [n]: of each sequence, for sampling. The token with the largest logit + Gumbel noise is a sample
    of the softmax, and noise that is a function of key, step and token is the same whatever else is decoded beside it.
    """
    log_p = logits.log_softmax(-1, dtype=torch.float32)
    ids = logits.argmax(-1)
    if picking.temperature:
        assert keys is not None and steps is not None
        scores = keep_likely(logits.float() / picking.temperature, picking.top_k, picking.top_p)
        sampled = gumbel_noise(keys, steps, logits.shape[-1]).add_(scores).argmax(-1)
        ids = torch.where(keys[:, 0] == GREEDY[0], ids, sampled)
    return ids, log_p.gather(-1, ids[:, None])[:, 0]


def keep_likely(scores: Tensor, top_k: int, top_p: float) -> Tensor:
    """scores [n, V] with -inf at all but the top_k likeliest tokens (0: all), and of those at all but the fewest whose
    probabilities, among those, reach top_p.
    """
    if top_p >= 1 and not top_k:
        return scores
    ordered, order = scores.sort(dim=-1, descending=True, stable=True)
    if top_k:
        ordered[:, top_k:] = float("-inf")
    if top_p < 1:
        p = ordered.softmax(dim=-1)
        ordered = ordered.masked_fill(p.cumsum(dim=-1) - p >= top_p, float("-inf"))
    return torch.empty_like(scores).scatter_(1, order, ordered)


def gumbel_noise(keys: Tensor, steps: Tensor, vocabulary: int) -> Tensor:
    """[n, V] fp32. The hash is `model/fused/mask.py`'s, of token and step under the sequence's key.

    In place, since it is bound by memory: half the time.
    """
    bits = torch.arange(vocabulary, device=keys.device) ^ keys[:, :1]
    mix(bits, 16, 0x7FEB352D)
    bits ^= keys[:, 1:] ^ ((steps[:, None] * 0x9E3779B1) & 0xFFFFFFFF)
    mix(bits, 15, 0x846CA68B)
    mix(bits, 16, 0x7FEB352D)
    bits ^= bits >> 15
    bits >>= 8
    uniform = bits.float().add_(0.5).div_(2**24)
    return uniform.log_().neg_().log_().neg_()


def mix(bits: Tensor, shift: int, factor: int) -> None:
    bits ^= bits >> shift
    bits *= factor
    bits &= 0xFFFFFFFF
