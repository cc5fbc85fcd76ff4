"""Examples to ids and targets: `Documents`.

A document is `[BOS] prompt target EOS`. What the model reads is all but the last id, what it must answer is all but
the first, so targets are shifted here, per document, before packing: none can ever cross into a neighbour.

    tokens      BOS  p1  p2  t1  t2  EOS
    input_ids   BOS  p1  p2  t1  t2
    targets      -    -  t1  t2  EOS          "-" is IGNORE_INDEX (supervise: target)
    targets      p1  p2  t1  t2  EOS          (supervise: all)
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

import numpy as np

from revinst.data.example_table import Discarded
from revinst.data.examples import Example
from revinst.data.prompt import Prompt, Template, render_prompt
from revinst.data.tokenizer import Tokenizer
from revinst.errors import UserError
from revinst.progress import track

IGNORE_INDEX = -100
BLOCK_EXAMPLES = 8192
CUT_MARKER = " [...] "


@dataclass
class Documents:
    """Encoded documents, end to end in flat arrays, which nobody changes.

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

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @cached_property
    def num_targets(self) -> int:
        return int((self.targets != IGNORE_INDEX).sum())

    def with_counts(self, truncated: int, discarded: list[Discarded]) -> "Documents":
        return replace(self, truncated=truncated, discarded=discarded)


def encode_examples(
    examples: Sequence[Example],
    template: Template,
    tokenizer: Tokenizer,
    seq_len: int,
    supervise: str = "target",
    *,
    with_context: bool = False,
    cut: str = "end",
) -> Documents:
    """Encodes examples as documents of at most `seq_len` inputs.

    The target is never cut: an over-long source loses its end, or with `cut: middle` what lies between its head and
    its tail (counted in `truncated`), and an example whose target leaves no space for its prompt is dropped (named in
    `discarded`). supervise: `target`, or `all` for every id but the first, as the blog does.
    """
    blocks = encode_blocks(examples, template, tokenizer, seq_len, supervise, with_context=with_context, cut=cut)
    return concatenate_documents(list(blocks))


def encode_blocks(
    examples: Sequence[Example],
    template: Template,
    tokenizer: Tokenizer,
    seq_len: int,
    supervise: str = "target",
    *,
    with_context: bool = False,
    cut: str = "end",
) -> Iterator[Documents]:
    """The same, BLOCK_EXAMPLES at a time, so that memory does not grow with the data."""
    starts = range(0, len(examples), BLOCK_EXAMPLES)
    for start in track(starts, "encoding", "rows", size=lambda at: min(BLOCK_EXAMPLES, len(examples) - at), brief=True):
        block = list(examples[start : start + BLOCK_EXAMPLES])
        prompts = [render_prompt(template, example, with_context) for example in block]
        target_ids = tokenizer.encode_continuations([prompt.target.strip() for prompt in prompts])
        space = [seq_len - len(ids) for ids in target_ids]
        prompt_ids, was_cut = encode_prompts(prompts, template, tokenizer, space, cut)
        kept = [number for number, ids in enumerate(prompt_ids) if ids is not None]
        yield build_documents(
            [prompt_ids[number] or [] for number in kept],
            [target_ids[number] for number in kept],
            [block[number].id for number in kept],
            tokenizer.eos_id,
            supervise,
        ).with_counts(
            truncated=sum(was_cut[number] for number in kept),
            discarded=[
                Discarded(
                    block[number].id,
                    f"the target has {len(target_ids[number])} tokens, with the template more than a row of {seq_len} "
                    "holds",
                )
                for number, ids in enumerate(prompt_ids)
                if ids is None
            ],
        )


def build_documents(
    prompts: list[list[int]], targets: list[list[int]], ids: list[str], eos_id: int, supervise: str
) -> Documents:
    """Joins prompt, target and EOS of each document and shifts inputs against targets."""
    tokens = array("i")
    for prompt, target in zip(prompts, targets, strict=True):
        tokens.extend(prompt)
        tokens.extend(target)
        tokens.append(eos_id)
    flat = np.frombuffer(tokens, dtype=np.int32) if tokens else np.zeros(0, dtype=np.int32)
    prompt_lengths = np.fromiter(map(len, prompts), np.int64, len(prompts))
    lengths = prompt_lengths + np.fromiter(map(len, targets), np.int64, len(targets)) + 1  # EOS
    ends = np.cumsum(lengths)
    is_input, is_answer = np.ones(len(flat), dtype=bool), np.ones(len(flat), dtype=bool)
    is_input[ends - 1] = False
    is_answer[ends - lengths] = False
    shifted = flat[is_answer]
    if supervise == "target":
        unsupervised = np.stack([prompt_lengths - 1, lengths - prompt_lengths], axis=1).reshape(-1)
        shifted[np.repeat(np.tile([True, False], len(prompts)), unsupervised)] = IGNORE_INDEX
    return Documents(flat[is_input], shifted, np.concatenate([[0], np.cumsum(lengths - 1)]), ids)


def concatenate_documents(parts: Sequence[Documents]) -> Documents:
    """One after the other, counts added up."""
    lengths = [part.lengths for part in parts]
    return Documents(
        input_ids=np.concatenate([np.zeros(0, np.int32), *(part.input_ids for part in parts)]),
        targets=np.concatenate([np.zeros(0, np.int32), *(part.targets for part in parts)]),
        offsets=np.concatenate([[0], *lengths]).cumsum(),
        ids=[example_id for part in parts for example_id in part.ids],
        truncated=sum(part.truncated for part in parts),
        discarded=[each for part in parts for each in part.discarded],
    )


def encode_prompts(
    prompts: Sequence[Prompt], template: Template, tokenizer: Tokenizer, space: Sequence[int], cut: str = "end"
) -> tuple[list[list[int] | None], list[bool]]:
    """Ids of each prompt in at most `space[i]` tokens, BOS included, and whether its source was cut to fit.

    The ids are the same in training and generation. None where not even a token of the source fits.
    """
    piece_ids = encode_pieces(prompts, template, tokenizer)
    bos = [tokenizer.bos_id] if tokenizer.bos_id is not None and not template.has_bos else []
    marker = tokenizer.encode_continuations([CUT_MARKER])[0] if cut == "middle" else []
    prompt_ids: list[list[int] | None] = []
    was_cut = []
    for prompt, pieces, limit in zip(prompts, piece_ids, space, strict=True):
        excess = len(bos) + sum(map(len, pieces)) - limit
        was_cut.append(excess > 0)
        if excess <= 0:
            prompt_ids.append([*bos, *chain.from_iterable(pieces)])
            continue
        lengths = {number: len(ids) for number, ids in enumerate(pieces) if prompt.pieces[number].source}
        if excess >= sum(lengths.values()):
            prompt_ids.append(None)
            continue
        kept = cut_longest(lengths, excess)
        cut_ids = (cut_source(ids, kept.get(n, len(ids)), marker) for n, ids in enumerate(pieces))
        prompt_ids.append([*bos, *chain.from_iterable(cut_ids)])
    return prompt_ids, was_cut


def cut_source(ids: list[int], length: int, marker: list[int]) -> list[int]:
    """The first `length` ids, or head, marker and tail: `cut_source([1, 2, 3, 4, 5, 6], 4, [0])` -> `[1, 2, 0, 6]`."""
    space = length - len(marker)
    if length >= len(ids) or not marker or space < 2:
        return ids[:length]
    return [*ids[: space - space // 2], *marker, *ids[len(ids) - space // 2 :]]


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
    prompts: Sequence[Prompt],
    template: Template,
    tokenizer: Tokenizer,
    seq_len: int,
    max_new_tokens: int,
    *,
    cut: str = "end",
) -> tuple[list[list[int]], int]:
    """Ids of each prompt that leave space for `max_new_tokens` in `seq_len`, and how many were cut for it."""
    space = seq_len - max_new_tokens
    prompt_ids, was_cut = encode_prompts(prompts, template, tokenizer, [space] * len(prompts), cut)
    fitting = [ids for ids in prompt_ids if ids is not None]
    if len(fitting) < len(prompts):
        raise UserError(
            f"{max_new_tokens} new tokens leave {space} of {seq_len} for the prompt, less than its template"
        )
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
