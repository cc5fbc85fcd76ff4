"""Decoding many prompts at once: a row that ends leaves its slot to the next prompt.

Rows in work always have slots 0 to n - 1, so that every forward takes a plain slice: when one ends, the last moves into
its slot. Prompts are taken longest first, and a new, tighter cache is made when those left are much shorter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from revinst.errors import UserError
from revinst.generation.cache import Cache
from revinst.generation.decoder import Decoder
from revinst.generation.graphs import StepGraphs
from revinst.generation.sampling import pick_tokens, row_keys

PREFILL_TOKENS = 8192  # at most, of one prefill: what its activations take is small beside the weights
SHRINK = 0.6  # a new cache where the longest prompt left needs less of a slot than this


@dataclass(slots=True)
class Row:
    """A prompt in work."""

    number: int
    prompt: list[int]
    limit: int
    new_ids: list[int] = field(default_factory=list)
    log_p: float = 0.0

    @property
    def length(self) -> int:
        """Positions in the cache: the newest token is not there yet."""
        return len(self.prompt) + len(self.new_ids) - 1


@dataclass(frozen=True, slots=True)
class Ended:
    """number: of the prompt. new_ids: without EOS. log_p: of all that was written, EOS included, in nats."""

    number: int
    new_ids: list[int]
    log_p: float
    stopped: str  # eos | length


@dataclass(frozen=True, slots=True)
class Picking:
    """How the next token is picked, and which one ends a row."""

    eos_id: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


def decode_rows(
    decoder: Decoder,
    prompts: Sequence[list[int]],
    limits: Sequence[int],
    picking: Picking,
    *,
    budget: int,
    max_slots: int,
) -> Iterator[Ended]:
    """Writes after each prompt until EOS or its limit of tokens, EOS included. Yields rows as they end.

    budget: positions that fit in the memory for the cache, over all slots. Where memory runs out nevertheless, the
    budget is halved and the rows that had not ended start again. Raises UserError when it does not hold one row.
    """
    rows = [
        Row(number, list(prompt), limit) for number, (prompt, limit) in enumerate(zip(prompts, limits, strict=True))
    ]
    rows.sort(key=lambda row: (-len(row.prompt) - row.limit, row.number))
    prefix = decoder.shared_prefix([row.prompt for row in rows])
    while rows:
        needed = len(rows[0].prompt) + rows[0].limit
        if needed > budget:
            raise UserError(
                f"not enough memory to write after a prompt of {len(rows[0].prompt)} tokens: its cache takes "
                f"{needed * decoder.cache_bytes / 2**30:.2f} GiB"
            )
        slots = max(1, min(max_slots, len(rows), budget // needed))
        try:
            yield from Slots(decoder, slots, needed, picking, prefix).run(rows)
        except torch.OutOfMemoryError:
            budget //= 2
            torch.cuda.empty_cache()


class Slots:
    """One cache and the rows in it."""

    def __init__(self, decoder: Decoder, num_slots: int, num_positions: int, picking: Picking, prefix: Tensor | None):
        self.decoder, self.picking, self.prefix = decoder, picking, prefix
        self.cache: Cache = decoder.new_cache(num_slots, num_positions)
        self.graphs = StepGraphs(decoder, self.cache) if decoder.device.type == "cuda" else None
        self.rows: list[Row] = []
        self.tokens = torch.zeros(num_slots, dtype=torch.int64, device=decoder.device)
        self.lengths = torch.zeros(num_slots, dtype=torch.int64, device=decoder.device)
        self.keys = torch.zeros(num_slots, 2, dtype=torch.int64, device=decoder.device)

    @property
    def num_free(self) -> int:
        return self.cache.num_slots - len(self.rows)

    def run(self, waiting: list[Row]) -> Iterator[Ended]:
        """Takes rows from the front of `waiting` while they use this cache well. A row leaves the list when it ends."""
        place = 0  # of the next row to start
        try:
            while True:
                if not self.rows or self.num_free > self.cache.num_slots // 16:
                    # to the last free slot, in as many prefills as it takes: a step costs the same with fewer rows
                    while taken := self.choose(waiting, place, self.num_free):
                        place += len(taken)
                        yield from self.start(taken)
                if self.rows:
                    yield from self.step()
                elif place == len(waiting) or not self.choose(waiting, place, 1):
                    return
        finally:
            unended = {row.number for row in self.rows}
            waiting[:] = [row for row in waiting[:place] if row.number in unended] + waiting[place:]
            for row in waiting[: len(unended)]:
                row.new_ids, row.log_p = [], 0.0

    def choose(self, waiting: list[Row], place: int, free: int) -> list[Row]:
        """The next rows that fit in the free slots, in one prefill, and are long enough for this cache."""
        chosen: list[Row] = []
        tokens = 0
        for row in waiting[place : place + free]:
            tokens += len(row.prompt)
            small = len(row.prompt) + row.limit < SHRINK * self.cache.num_positions
            worth = len(waiting) - place > self.cache.num_slots  # few rows are not worth another cache
            if (chosen and tokens > PREFILL_TOKENS) or (small and worth):
                break
            chosen.append(row)
        return chosen

    def start(self, rows: list[Row]) -> Iterator[Ended]:
        first, device = len(self.rows), self.decoder.device
        prompts = [row.prompt for row in rows]
        self.rows += rows  # before memory can run out, so that none is forgotten
        logits = self.decoder.prefill(prompts, self.cache, first, self.prefix)
        span = slice(first, first + len(rows))
        self.lengths[span] = torch.tensor([len(prompt) for prompt in prompts], device=device)
        if self.picking.temperature:
            self.keys[span] = row_keys(self.picking.seed, prompts, device)
        yield from self.accept(logits, first)

    def step(self) -> Iterator[Ended]:
        n = len(self.rows)
        if self.graphs is not None:
            logits = self.graphs.step(self.tokens, self.lengths, n)
        else:
            longest = max(row.length for row in self.rows) + 1
            logits = self.decoder.step(self.tokens[:n], self.lengths[:n], self.cache, longest)
        self.lengths[:n] += 1
        yield from self.accept(logits, 0)

    def accept(self, logits: Tensor, first: int) -> Iterator[Ended]:
        """Picks a token for the rows from slot `first` on; yields those that end."""
        rows, picking = self.rows[first:], self.picking
        span = slice(first, first + len(rows))
        steps = torch.tensor([len(row.new_ids) for row in rows], device=logits.device) if picking.temperature else None
        ids, log_p = pick_tokens(logits, picking.temperature, picking.top_p, self.keys[span], steps)
        self.tokens[span] = ids
        ended = []
        for slot, (row, token, value) in enumerate(zip(rows, ids.tolist(), log_p.tolist(), strict=True), first):
            row.log_p += value
            row.new_ids.append(token)
            if token == picking.eos_id or len(row.new_ids) == row.limit:
                ended.append(slot)
        for slot in reversed(ended):
            yield self.end(slot)

    def end(self, slot: int) -> Ended:
        """Frees a slot: the last row moves into it."""
        row, last = self.rows[slot], self.rows.pop()
        if last is not row:
            source = len(self.rows)
            self.rows[slot] = last
            self.cache.move(source, slot, last.length)
            for state in (self.tokens, self.lengths, self.keys):
                state[slot] = state[source]
        stopped = "eos" if row.new_ids[-1] == self.picking.eos_id else "length"
        new_ids = row.new_ids[:-1] if stopped == "eos" else row.new_ids
        return Ended(row.number, new_ids, row.log_p, stopped)
