"""The plain twin of `slots`: transformers' `generate`, for any architecture."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from revinst.data.tokenizer import Tokenizer
from revinst.generation.sampling import pick_tokens, row_keys
from revinst.generation.slots import Ended, Picking


def generate_with_transformers(
    model: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[list[int]],
    limits: Sequence[int],
    picking: Picking,
    batch_size: int,
) -> Iterator[Ended]:
    """Prompts of similar length share a batch, padded on the left under an attention mask. Same results as `slots`."""
    from transformers import GenerationConfig

    order = sorted(range(len(prompts)), key=lambda number: (-len(prompts[number]), number))
    device = next(model.parameters()).device
    config = GenerationConfig(
        do_sample=False,  # `Picked` leaves one token where sampling was asked for
        num_beams=1,
        use_cache=True,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=picking.eos_id,
        pad_token_id=tokenizer.pad_id,
    )
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        input_ids, attention_mask = pad_left([prompts[number] for number in numbers], tokenizer.pad_id)
        config.max_new_tokens = max(limits[number] for number in numbers)
        picked = Picked(picking, row_keys(picking.seed, [prompts[number] for number in numbers], device))
        output = model.generate(
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            generation_config=config,
            logits_processor=[picked],
        )
        log_p = torch.stack(picked.log_p, dim=1).tolist()  # [batch, steps]
        new_ids = output[:, input_ids.shape[1] :].tolist()
        for number, ids, values in zip(numbers, new_ids, log_p, strict=True):
            yield cut(number, ids[: limits[number]], values, picking.eos_id)


class Picked:
    """A logits processor that picks the token itself and notes its log p."""

    def __init__(self, picking: Picking, keys: Tensor):
        self.picking, self.keys = picking, keys
        self.log_p: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores [batch, V] -> the same with one finite value a row."""
        steps = torch.full((len(scores),), len(self.log_p), device=scores.device)
        ids, log_p = pick_tokens(scores, self.picking.temperature, self.picking.top_p, self.keys, steps)
        self.log_p.append(log_p)
        return torch.full_like(scores, float("-inf")).scatter_(1, ids[:, None], 0.0)


def pad_left(prompts: Sequence[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """(input_ids, attention_mask), int64 [batch, longest]."""
    longest = max(map(len, prompts))
    input_ids = torch.tensor([[pad_id] * (longest - len(ids)) + ids for ids in prompts])
    attention_mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
    return input_ids, attention_mask


def cut(number: int, new_ids: list[int], log_p: list[float], eos_id: int) -> Ended:
    """
    >>> cut(0, [5, 6, 2, 0, 0], [-1.0, -1.0, -0.5, 0.0, 0.0], eos_id=2)
    Ended(number=0, new_ids=[5, 6], log_p=-2.5, stopped='eos')
    """
    if eos_id in new_ids:
        end = new_ids.index(eos_id)
        return Ended(number, new_ids[:end], sum(log_p[: end + 1]), "eos")
    return Ended(number, new_ids, sum(log_p[: len(new_ids)]), "length")
