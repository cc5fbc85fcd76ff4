"""Batched decoding: prompts as ids in, new ids out."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from revinst.data.tokenizer import Tokenizer
from revinst.errors import UserError


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How to decode; kept beside every score.

    Attributes:
        max_new_tokens: at most this many, EOS included.
        temperature: 0 is greedy.
        top_p: smallest set of tokens with this probability is sampled from.
        seed: of the sampling; with the same one a prompt gives the same sample, whatever is decoded beside it.
        batch_size: prompts decoded together.
    """

    max_new_tokens: int = 100
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self):
        if self.max_new_tokens < 1 or self.batch_size < 1:
            raise UserError("--max_new_tokens and --batch_size must be at least 1")
        if not (self.temperature == 0 or 1e-3 <= self.temperature <= 1e3) or not 0 < self.top_p <= 1:
            raise UserError("--temperature must be 0 (greedy) or between 0.001 and 1000, --top_p in (0, 1]")


@dataclass(frozen=True, slots=True)
class Generated:
    """New ids without EOS; `stopped` is `eos` or `length`."""

    token_ids: list[int]
    stopped: str


@torch.no_grad()
def generate_batches(
    model: Any, tokenizer: Tokenizer, prompts: Sequence[list[int]], settings: GenerationSettings
) -> Iterator[tuple[int, Generated]]:
    """Yields (number of the prompt, what was generated), longest prompts first.

    Prompts of similar length share a batch, padded on the left under an attention mask, so greedy results do not
    depend on their neighbours. The model's mode and cache setting are as before afterwards.
    """
    from transformers import GenerationConfig

    config = GenerationConfig(
        max_new_tokens=settings.max_new_tokens,
        do_sample=False,  # `Sampler` leaves one token where sampling was asked for
        num_beams=1,
        use_cache=True,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )
    order = sorted(range(len(prompts)), key=lambda number: (-len(prompts[number]), number))
    device = next(model.parameters()).device
    with inference_mode_of(model):
        for start in range(0, len(order), settings.batch_size):
            numbers = order[start : start + settings.batch_size]
            input_ids, attention_mask = pad_left([prompts[number] for number in numbers], tokenizer.pad_id)
            sampler = (
                [Sampler(settings, [prompts[number] for number in numbers], device)] if settings.temperature else []
            )
            output = model.generate(
                input_ids=input_ids.to(device),
                attention_mask=attention_mask.to(device),
                generation_config=config,
                logits_processor=sampler,
            )
            for number, new_ids in zip(numbers, output[:, input_ids.shape[1] :].tolist(), strict=True):
                yield number, cut_at_eos(new_ids, tokenizer.eos_id)


class Sampler:
    """Temperature and top-p sampling with a random generator for each prompt, as a logits processor.

    The token with the largest logit + Gumbel noise is a sample of the softmax; all others get -inf.
    """

    def __init__(self, settings: GenerationSettings, prompts: list[list[int]], device: torch.device):
        self.settings = settings
        self.generators = []
        for prompt in prompts:
            digest = hashlib.sha256(json.dumps([settings.seed, prompt]).encode()).digest()
            self.generators.append(torch.Generator(device).manual_seed(int.from_bytes(digest[:7])))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores [batch, vocabulary] -> the same with one finite value a row."""
        scores = scores.float() / self.settings.temperature
        if self.settings.top_p < 1:
            ordered, order = scores.sort(dim=-1, descending=True)
            before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
            ordered[before >= self.settings.top_p] = float("-inf")
            scores = torch.empty_like(scores).scatter_(1, order, ordered)
        noise = torch.stack(
            [torch.empty_like(scores[0]).exponential_(generator=generator) for generator in self.generators]
        )
        best = (scores - noise.log()).argmax(dim=-1, keepdim=True)
        return torch.full_like(scores, float("-inf")).scatter_(1, best, 0.0)


@contextmanager
def inference_mode_of(model: Any) -> Iterator[None]:
    """Eval mode inside; every submodule's own mode restored after (`train()` on the root would not do)."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def pad_left(prompts: Sequence[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(input_ids, attention_mask), int64 [batch, longest]."""
    longest = max(map(len, prompts))
    input_ids = torch.tensor([[pad_id] * (longest - len(ids)) + ids for ids in prompts])
    attention_mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
    return input_ids, attention_mask


def cut_at_eos(new_ids: list[int], eos_id: int) -> Generated:
    """
    >>> cut_at_eos([5, 6, 2, 0, 0], eos_id=2)
    Generated(token_ids=[5, 6], stopped='eos')
    """
    if eos_id in new_ids:
        return Generated(new_ids[: new_ids.index(eos_id)], "eos")
    return Generated(new_ids, "length")
