"""Decoding many prompts at once: a sequence that ends leaves its slot to the next prompt.

Sequences in work always have slots 0 to n - 1, so that every step takes a plain slice: when some end, the last ones
move into their slots. Prompts are taken longest first, and a new, tighter cache is made when those left are much
shorter. Sequences with the same prompt share its prefill. What was written stays on the device until its
sequence has ended.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from revinst.errors import UserError
from revinst.inference.engine.cache import Cache
from revinst.inference.engine.decoder import Decoder
from revinst.inference.engine.graphs import StepGraphs
from revinst.inference.engine.sampling import Picking, pick_tokens, sequence_keys

PREFILL_TOKENS = 8192  # at most, of one prefill: what its activations take is small beside the weights
SHRINK = 0.6  # a new cache where the longest prompt left needs less of a slot than this


@dataclass(slots=True)
class TokenSequence:
    """Something to write after a prompt. started: what `Slots.clock` showed at its first token.

    sample: which one of its prompt; None: the greedy text.
    """

    number: int
    prompt: list[int]
    limit: int
    sample: int | None = 0
    started: int = 0

    @property
    def needed(self) -> int:
        """Positions of a slot."""
        return len(self.prompt) + self.limit


@dataclass(frozen=True, slots=True)
class Ended:
    """number: of the prompt. new_ids: without what ended it. log_p: of all that was written, that included, in nats."""

    number: int
    new_ids: list[int]
    log_p: float
    stopped: str  # eos | header | length


def decode_sequences(
    decoder: Decoder,
    prompts: Sequence[list[int]],
    limits: Sequence[int],
    picking: Picking,
    *,
    budget: int,
    max_slots: int,
    samples: Sequence[int | None] | None = None,
) -> Iterator[Ended]:
    """Writes after each prompt until something ends it or its limit of tokens is reached. Yields sequences as they end.

    budget: positions that fit in the memory for the cache, over all slots. Where memory runs out nevertheless, the
    budget is halved and the sequences that had not ended start again. Raises UserError when it does not hold one.
    samples: which sample of its prompt each sequence is; default: 0; None: the greedy text.
    """
    samples = samples or [0] * len(prompts)
    each = zip(prompts, limits, samples, strict=True)
    sequences = [TokenSequence(n, prompt, limit, sample) for n, (prompt, limit, sample) in enumerate(each)]
    sequences.sort(key=lambda sequence: (-sequence.needed, sequence.prompt, sequence.number))
    prefix = decoder.shared_prefix([sequence.prompt for sequence in sequences])
    while sequences:
        needed = sequences[0].needed
        if needed > budget:
            raise UserError(
                f"not enough memory to write after a prompt of {len(sequences[0].prompt)} tokens: its cache takes "
                f"{needed * decoder.cache_bytes / 2**30:.2f} GiB"
            )
        slots = max(1, min(max_slots, len(sequences), budget // needed))
        try:
            yield from Slots(decoder, slots, needed, max(limits), picking, prefix).run(sequences)
        except torch.OutOfMemoryError:
            budget //= 2
            torch.cuda.empty_cache()


class Slots:
    """One cache and the sequences in it. What is known of the sequence in each slot is on the device: `state`."""

    def __init__(
        self, decoder: Decoder, num_slots: int, num_positions: int, most: int, picking: Picking, prefix: Tensor | None
    ):
        self.decoder, self.picking, self.prefix = decoder, picking, prefix
        self.cache: Cache = decoder.new_cache(num_slots, num_positions)
        self.graphs = StepGraphs(decoder, self.cache) if decoder.device.type == "cuda" else None
        self.sequences: list[TokenSequence] = []
        self.clock = 0  # steps done

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(num_slots, *shape, dtype=dtype, device=decoder.device)

        self.tokens, self.lengths, self.counts, self.limits = zeros(), zeros(), zeros(), zeros()
        self.keys, self.written, self.log_p = zeros(2), zeros(most), zeros(dtype=torch.float64)
        self.state = (self.tokens, self.lengths, self.counts, self.limits, self.keys, self.written, self.log_p)

    @property
    def num_free(self) -> int:
        return self.cache.num_slots - len(self.sequences)

    def count(self, sequence: TokenSequence) -> int:
        """New tokens of a sequence. The newest is not in the cache yet."""
        return self.clock - sequence.started + 1

    def run(self, waiting: list[TokenSequence]) -> Iterator[Ended]:
        """Takes sequences from the front of `waiting` while they use this cache well; one leaves it when it ends."""
        place = 0  # of the next sequence to start
        try:
            while True:
                # to the last free slot, in as many prefills as it takes: a step costs the same with fewer sequences
                fills = not self.sequences or self.num_free > self.cache.num_slots // 16
                taken = self.choose(waiting, place) if fills else []
                if not taken and not self.sequences:
                    return
                if not taken:
                    self.step()
                while taken:
                    place += len(taken)
                    self.start(taken)
                    taken = self.choose(waiting, place)
                yield from self.collect()
        finally:
            unended = {sequence.number for sequence in self.sequences}
            waiting[:] = [sequence for sequence in waiting[:place] if sequence.number in unended] + waiting[place:]

    def choose(self, waiting: list[TokenSequence], place: int) -> list[TokenSequence]:
        """The next sequences that fit in the free slots, in one prefill, and are long enough for this cache."""
        chosen: list[TokenSequence] = []
        tokens = 0
        for sequence in waiting[place : place + self.num_free]:
            if not chosen or sequence.prompt != chosen[-1].prompt:
                tokens += len(sequence.prompt)
            small = sequence.needed < SHRINK * self.cache.num_positions
            worth = len(waiting) - place > self.cache.num_slots  # a few are not worth another cache
            if (chosen and tokens > PREFILL_TOKENS) or (small and worth):
                break
            chosen.append(sequence)
        return chosen

    def start(self, sequences: list[TokenSequence]) -> None:
        """Prefills distinct prompts; sequences that repeat one get a copy of its keys and values."""
        first, put = len(self.sequences), self.decoder.put
        slots_of: dict[tuple[int, ...], list[int]] = {}
        for slot, sequence in enumerate(sequences, first):
            slots_of.setdefault(tuple(sequence.prompt), []).append(slot)
            sequence.started = self.clock
        self.sequences += sequences  # before memory can run out, so that none is forgotten
        prompts = list(map(list, slots_of))
        logits = self.decoder.prefill(prompts, self.cache, [slots[0] for slots in slots_of.values()], self.prefix)
        if len(prompts) < len(sequences):
            for prompt, (source, *targets) in slots_of.items():
                self.cache.copy(source, targets, len(prompt))
            numbers = {prompt: number for number, prompt in enumerate(slots_of)}
            logits = logits[put(torch.tensor([numbers[tuple(sequence.prompt)] for sequence in sequences]))]
        span = slice(first, len(self.sequences))
        self.lengths[span], self.limits[span] = put(torch.tensor([[len(s.prompt), s.limit] for s in sequences]).T)
        self.counts[span], self.log_p[span] = 0, 0.0
        if self.picking.temperature:
            self.keys[span] = put(sequence_keys(self.picking.seed, [(s.prompt, s.sample) for s in sequences]))
        self.accept(logits, span)

    def step(self) -> None:
        n = len(self.sequences)
        if self.graphs is not None:
            logits = self.graphs.step(self.tokens, self.lengths, n)
        else:
            longest = max(len(sequence.prompt) + self.count(sequence) for sequence in self.sequences)
            logits = self.decoder.step(self.tokens[:n], self.lengths[:n], self.cache, longest)
        self.lengths[:n] += 1
        self.clock += 1
        self.accept(logits, slice(0, n))

    def accept(self, logits: Tensor, span: slice) -> None:
        """Picks a token for the sequences in some slots."""
        ids, log_p = pick_tokens(logits, self.picking, self.keys[span], self.counts[span])
        self.tokens[span] = ids
        self.written[span].scatter_(1, self.counts[span, None], ids[:, None])
        self.log_p[span] += log_p
        self.counts[span] += 1

    def collect(self) -> Iterator[Ended]:
        """Takes out the sequences whose newest token ends them."""
        n = len(self.sequences)
        over = self.counts[:n] >= self.limits[:n]
        slots = (over | self.picking.stopping.may_end(self.tokens[:n])).nonzero()[:, 0]
        texts, log_p = self.written[slots].tolist(), self.log_p[slots].tolist()
        ended = {}
        for slot, text, value in zip(slots.tolist(), texts, log_p, strict=True):
            sequence = self.sequences[slot]
            ids = text[: self.count(sequence)]
            verdict = self.picking.stopping.judge(ids) or ((len(ids), "length") if len(ids) == sequence.limit else None)
            if verdict:
                ended[slot] = Ended(sequence.number, ids[: verdict[0]], value, verdict[1])
        if ended:
            self.free(set(ended))
            yield from ended.values()

    def free(self, slots: set[int]) -> None:
        """The last sequences move into these slots."""
        left = len(self.sequences) - len(slots)
        targets = sorted(slot for slot in slots if slot < left)
        sources = [slot for slot in range(left, len(self.sequences)) if slot not in slots]
        for source, target in zip(sources, targets, strict=True):
            sequence = self.sequences[source]
            self.cache.copy(source, [target], len(sequence.prompt) + self.count(sequence) - 1)
        if targets:
            there, here = self.decoder.put(torch.tensor([targets, sources]))
            for part in self.state:
                part[there] = part[here]
        for source, target in zip(sources, targets, strict=True):
            self.sequences[target] = self.sequences[source]
        del self.sequences[left:]
