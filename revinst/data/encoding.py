"""Examples to ids and targets: `Documents`.

A document is `[BOS] prompt target EOS`. What the model reads is all but the last id, what it must answer is all but
the first, so targets are shifted here, per document, before packing: none can ever cross into a neighbour.

    tokens      BOS  p1  p2  t1  t2  EOS
    input_ids   BOS  p1  p2  t1  t2
    targets      -    -  t1  t2  EOS          "-" is IGNORE_INDEX (supervise: target)
    targets      p1  p2  t1  t2  EOS          (supervise: all)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from revinst.data.examples import Discarded, Example
from revinst.data.prompt import Prompt, Template, render_prompt
from revinst.data.tokenizer import Tokenizer
from revinst.errors import UserError

IGNORE_INDEX = -100


@dataclass(slots=True)
class Documents:
    """Encoded documents, end to end in flat arrays.

    input_ids, targets: int32 `[num_tokens]`; offsets: int64 `[num_documents + 1]`; document d is
    `input_ids[offsets[d]:offsets[d + 1]]`. ids: the example id of each document (for `joined` rows, of all in it).
    """

    input_ids: np.ndarray
    targets: np.ndarray
    offsets: np.ndarray
    ids: list[str]
    truncated: int = 0
    discarded: list[Discarded] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def num_targets(self) -> int:
        return int((self.targets != IGNORE_INDEX).sum())


def encode_examples(
    examples: Sequence[Example],
    template: Template,
    tokenizer: Tokenizer,
    seq_len: int,
    supervise: str = "target",
    with_context: bool = False,
) -> Documents:
    """Encodes examples as documents of at most `seq_len` inputs.

    The target is never cut: an over-long source loses its end (counted in `truncated`), and an example whose target
    leaves no room for its prompt is dropped (named in `discarded`). supervise: `target`, or `all` for every id but
    the first, as the blog does.
    """
    prompts = [render_prompt(template, example, with_context) for example in examples]
    target_ids = tokenizer.encode_continuations([prompt.target.strip() for prompt in prompts])
    room = [seq_len - len(ids) for ids in target_ids]
    prompt_ids, was_cut = encode_prompts(prompts, template, tokenizer, room)

    inputs, targets, lengths, ids = [], [], [0], []
    discarded = []
    for example, prompt, target in zip(examples, prompt_ids, target_ids, strict=True):
        if prompt is None:
            reason = f"the target has {len(target)} tokens, with the template more than a row of {seq_len} holds"
            discarded.append(Discarded(example.id, reason))
            continue
        tokens = [*prompt, *target, tokenizer.eos_id]
        first = len(prompt) if supervise == "target" else 1
        inputs.append(tokens[:-1])
        targets.append([IGNORE_INDEX] * (first - 1) + tokens[first:])
        lengths.append(len(tokens) - 1)
        ids.append(example.id)
    return Documents(
        input_ids=concatenate(inputs),
        targets=concatenate(targets),
        offsets=np.cumsum(lengths, dtype=np.int64),
        ids=ids,
        truncated=sum(cut and prompt is not None for cut, prompt in zip(was_cut, prompt_ids, strict=True)),
        discarded=discarded,
    )


def encode_prompts(
    prompts: Sequence[Prompt], template: Template, tokenizer: Tokenizer, room: Sequence[int]
) -> tuple[list[list[int] | None], list[bool]]:
    """Ids of each prompt in at most `room[i]` tokens, BOS included, and whether its source was cut to fit.

    The ids are the same in training and generation. None where not even an empty source fits.
    """
    piece_ids = encode_pieces(prompts, template, tokenizer)
    prompt_ids: list[list[int] | None] = []
    was_cut = []
    for prompt, pieces, limit in zip(prompts, piece_ids, room, strict=True):
        bos = [tokenizer.bos_id] if tokenizer.bos_id is not None and not template.has_bos else []
        excess = len(bos) + sum(map(len, pieces)) - limit
        was_cut.append(excess > 0)
        kept = {n: len(ids) for n, ids in enumerate(pieces) if prompt.pieces[n].source}
        if excess > sum(kept.values()):
            prompt_ids.append(None)
            continue
        kept = cut_longest(kept, excess)
        prompt_ids.append(sum((ids[: kept.get(n, len(ids))] for n, ids in enumerate(pieces)), bos))
    return prompt_ids, was_cut


def cut_longest(lengths: dict[int, int], excess: int) -> dict[int, int]:
    """Lengths after cutting `excess` off the longest, or off several once they are equal: 9 and 5, by 6 -> 4 and 4."""
    lengths = dict(lengths)
    while excess > 0:
        *shorter, longest = sorted(lengths, key=lengths.__getitem__)
        lead = lengths[longest] - (lengths[shorter[-1]] if shorter else 0)
        cut = min(excess, max(lead, 1))
        lengths[longest] -= cut
        excess -= cut
    return lengths


def encode_to_generate(
    prompts: Sequence[Prompt], template: Template, tokenizer: Tokenizer, seq_len: int, max_new_tokens: int
) -> tuple[list[list[int]], int]:
    """Ids of each prompt that leave room for `max_new_tokens` in `seq_len`, and how many were cut for it."""
    room = seq_len - max_new_tokens
    prompt_ids, was_cut = encode_prompts(prompts, template, tokenizer, [room] * len(prompts))
    fitting = [ids for ids in prompt_ids if ids is not None]
    if len(fitting) < len(prompts):
        raise UserError(f"{max_new_tokens} new tokens leave {room} of {seq_len} for the prompt, less than its template")
    return fitting, sum(was_cut)


def encode_pieces(prompts: Sequence[Prompt], template: Template, tokenizer: Tokenizer) -> list[list[list[int]]]:
    """Ids of each piece of each prompt. Fixed text is encoded once, everybody's text in one batch."""
    parse_special = template.name == "chat"  # a template file's, like everybody's text, stay text
    fixed: dict[tuple[str, bool], list[int]] = {}
    sources: list[str] = []
    for prompt in prompts:
        for number, piece in enumerate(prompt.pieces):
            if piece.source:
                sources.append(piece.text.strip())
            elif (piece.text, number == 0) not in fixed:
                fixed[piece.text, number == 0] = (
                    tokenizer.encode_fixed(piece.text, parse_special)
                    if number == 0
                    else tokenizer.encode_continuations([piece.text], parse_special)[0]
                )
    source_ids = iter(tokenizer.encode_continuations(sources))
    return [
        [next(source_ids) if piece.source else fixed[piece.text, n == 0] for n, piece in enumerate(prompt.pieces)]
        for prompt in prompts
    ]


def concatenate(parts: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts] or [np.zeros(0, dtype=np.int32)])
