"""transformers' `generate`, for any architecture: the reference that `slots` is held to."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from revinst.data.tokenizer import Tokenizer
from revinst.inference.engine.sampling import Picking, pick_tokens, sequence_keys
from revinst.inference.engine.slots import Ended
from revinst.inference.engine.stopping import Stopping
from revinst.model.network import Network
from revinst.model.sharding import is_sharded


def generate_with_transformers(
    network: Network,
    tokenizer: Tokenizer,
    sequences: Sequence[tuple[list[int], int, int | None]],
    picking: Picking,
    batch_size: int,
) -> Iterator[Ended]:
    """Prompts of similar length share a batch, padded on the left under an attention mask.

    sequences: (prompt, limit, number of its sample or None for the greedy text). The same results as of `slots`.
    Of a sharded model on all ranks together, for the same ones: each pass puts layers together, so all take as many.
    """
    from transformers import GenerationConfig

    order = sorted(range(len(sequences)), key=lambda number: (-len(sequences[number][0]), number))
    generate = cast(Callable[..., Tensor], network.model.generate)
    config = GenerationConfig(
        do_sample=False,  # `Picked` leaves one token where sampling was asked for
        num_beams=1,
        use_cache=True,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_ids,
        pad_token_id=tokenizer.pad_id,
    )
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        prompts, limits, samples = zip(*(sequences[number] for number in numbers), strict=True)
        input_ids, attention_mask = pad_left(prompts, tokenizer.pad_id)
        config.max_new_tokens = max(limits)
        keys = sequence_keys(picking.seed, list(zip(prompts, samples, strict=True))).to(network.device)
        picked = Picked(picking, keys)
        ends = partial(find_ended, picking.stopping, input_ids.shape[1])
        output = generate(
            input_ids=input_ids.to(network.device),
            attention_mask=attention_mask.to(network.device),
            generation_config=config,
            logits_processor=[picked],
            stopping_criteria=[ends],
            synced_gpus=is_sharded(network),
        )
        log_p = torch.stack(picked.log_p, dim=1).tolist()  # [batch, steps]
        new_ids = output[:, input_ids.shape[1] :].tolist()
        for number, ids, values, limit in zip(numbers, new_ids, log_p, limits, strict=True):
            yield cut(number, ids[:limit], values, picking.stopping)


class Picked:
    """A logits processor that picks the token itself and notes its log p."""

    def __init__(self, picking: Picking, keys: Tensor):
        self.picking, self.keys = picking, keys
        self.log_p: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores [batch, V] -> the same with one finite value a sequence."""
        steps = torch.full((len(scores),), len(self.log_p), device=scores.device)
        ids, log_p = pick_tokens(scores, self.picking, self.keys, steps)
        self.log_p.append(log_p)
        return torch.full_like(scores, float("-inf")).scatter_(1, ids[:, None], 0.0)


def pad_left(prompts: Sequence[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """(input_ids, attention_mask), int64 [batch, longest]."""
    longest = max(map(len, prompts))
    input_ids = torch.tensor([[pad_id] * (longest - len(ids)) + ids for ids in prompts])
    attention_mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
    return input_ids, attention_mask


def find_ended(stopping: Stopping, start: int, ids: Tensor, scores: object) -> Tensor:
    """A stopping criterion: [batch] bool, sequences that end with their newest token. start: of what is new in ids."""
    ended = stopping.may_end(ids[:, -1])
    for number in ended.nonzero()[:, 0].tolist():
        ended[number] = stopping.judge(ids[number, start:].tolist()) is not None
    return ended


def cut(number: int, ids: list[int], log_p: list[float], stopping: Stopping) -> Ended:
    """A sequence at the first token that ends it; what follows is padding."""
    for place in stopping.may_end(torch.tensor(ids)).nonzero()[:, 0].tolist():
        if verdict := stopping.judge(ids[: place + 1]):
            return Ended(number, ids[: verdict[0]], sum(log_p[: place + 1]), verdict[1])
    return Ended(number, ids, sum(log_p[: len(ids)]), "length")
