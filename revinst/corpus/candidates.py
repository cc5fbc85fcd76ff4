"""Instructions for texts: samples from the trained model, one picked, and how well it fits its text."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from revinst.corpus.chunks import CHUNK_WORDS
from revinst.corpus.texts import Record
from revinst.data.examples import Example, build_text
from revinst.data.formats import BadRecord
from revinst.data.overlap import THRESHOLD, jaccards, shingles_of
from revinst.data.prompt import Template, load_template
from revinst.data.words import count_words, normalise
from revinst.inference.engine.engine import Engine
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.likelihood import log_likelihoods
from revinst.inference.picks import ONE, PickSettings
from revinst.inference.samples import Candidate, Picked, Sample, Written, list_candidates, pick_all
from revinst.inference.trained import Trained
from revinst.inference.writing import write_samples
from revinst.model.network import Network

NUMBERS = ("log_p", "gain", "ifd", "rifd")
UNREAD: Record = {"instruction": "", "candidates": [], "counts": [], "votes": []} | dict.fromkeys(NUMBERS)


class Writer:
    """A trained model that writes and judges instructions.

    network: with the adapter of the run; without it, it is the base that judges. picks: how many texts it writes for
    one, and which is taken. per_text: how many are kept of a text of CHUNK_WORDS.
    on_sample: is told (1, its tokens) of each as soon as it is written.
    """

    on_sample: Callable[[int, int], None] = staticmethod(lambda count, tokens: None)

    def __init__(
        self,
        trained: Trained,
        network: Network,
        settings: GenerationSettings,
        picks: PickSettings = ONE,
        per_text: int = 1,
    ):
        self.trained, self.network, self.settings, self.picks = trained, network, settings, picks
        self.per_text = per_text
        self.tokenizer = trained.tokenizer
        self.response_template = load_template("forward")
        self.engine = Engine(network, trained.tokenizer, settings, trained.template.headers)

    def write(self, texts: Sequence[str], with_greedy: bool) -> list[Written]:
        prompts = self.trained.encode_to_generate([example_of(text) for text in texts], self.settings.max_new_tokens)
        count, on_sample = self.picks.samples, self.on_sample
        found = dict(write_samples(self.engine, prompts.ids, count, with_greedy, on_sample))
        return [found[number] for number in range(len(texts))]

    def suggest(self, text: str, picks: PickSettings, temperature: float) -> list[Candidate]:
        """A text's candidates: the one that is picked first, then those that agree most, the greedy one among them.

        Raises BadRecord for a text that `fit` would not have taken.
        """
        text = build_text(text, self.trained.strip_citations).response
        writer = Writer(self.trained, self.network, replace(self.settings, temperature=temperature), picks)
        written = writer.write([text], with_greedy=True)
        (picked,) = writer.pick([text], written)
        return rank_candidates(written[0], picked)

    def pick(self, texts: Sequence[str], written: Sequence[Written]) -> list[Picked]:
        """What is taken of each text's; `round_trip` goes by the nats that a sample adds to log p(text)."""

        def measure_help() -> list[list[float]]:
            pairs = list(dict.fromkeys((t, own) for t, each in zip(texts, written, strict=True) for own in each.texts))
            found = self.gains([text for text, _ in pairs], [own for _, own in pairs])
            gains = dict(zip(pairs, found.tolist(), strict=True))
            return [[gains[text, own] for own in each.texts] for text, each in zip(texts, written, strict=True)]

        return pick_all(written, self.picks, measure_help)

    def gains(self, texts: Sequence[str], instructions: Sequence[str]) -> np.ndarray:
        """Nats a token that an instruction adds to log p(text) under the base; NaN where the text does not fit."""
        distinct = list(dict.fromkeys(texts))
        place = {text: number for number, text in enumerate(distinct)}
        with self.network.without_adapter():
            log_p = self.log_p(self.response_template, [*texts, *distinct], [*instructions, *[""] * len(distinct)])
        given, alone = log_p[: len(texts)], log_p[len(texts) :]
        return (given - alone[[place[text] for text in texts]]) / self.count_tokens(texts)

    def score(self, texts: Sequence[str], instructions: Sequence[str], gains: np.ndarray) -> list[dict[str, Any]]:
        """gain, ifd and rifd of each pair; None where a text does not fit in a row of tokens.

        ifd: perplexity of the text with its instruction / without, under the base. rifd: perplexity of the instruction
        with its text / without, under the trained model.
        """
        log_p = self.log_p(self.trained.template, [*texts, *[""] * len(texts)], [*instructions] * 2)
        with_text, without = np.split(log_p, 2)
        rifd = np.exp((without - with_text) / self.count_tokens(instructions))
        columns = {"gain": gains, "ifd": np.exp(-gains), "rifd": rifd}
        return [
            {name: None if np.isnan(values[number]) else float(values[number]) for name, values in columns.items()}
            for number in range(len(texts))
        ]

    def log_p(self, template: Template, texts: Sequence[str], instructions: Sequence[str]) -> np.ndarray:
        """log p of the template's target in nats, float64 `[texts]`."""
        examples = [
            example_of(text, instruction, str(number))
            for number, (text, instruction) in enumerate(zip(texts, instructions, strict=True))
        ]
        return log_likelihoods(
            self.network, examples, template, self.tokenizer, self.trained.seq_len, cut=self.trained.cut
        )

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Targets of each text: its tokens and EOS."""
        return np.array([len(ids) + 1 for ids in self.tokenizer.encode_continuations([t.strip() for t in texts])])

    def write_records(self, records: Sequence[Record]) -> list[Record]:
        """The records with instruction, candidates, pick and scores, one for each of a text's instructions; no
        instruction for a text that can't be read.
        """
        texts = [self.prepare(record["text"]) for record in records]
        known = iter(self.write_texts([text for text in texts if text]))
        return [
            record | {"pick": self.picks.pick} | each
            for record, text in zip(records, texts, strict=True)
            for each in (next(known) if text else [UNREAD])
        ]

    def prepare(self, text: str) -> str:
        """As the run reads it; empty where it would not have been trained on it."""
        try:
            return build_text(text, self.trained.strip_citations).response
        except BadRecord:
            return ""

    def write_texts(self, texts: Sequence[str]) -> list[list[Record]]:
        """For each text its instructions, each with candidates and scores."""
        if not texts:
            return []
        written = self.write(texts, self.picks.takes_greedy)
        picked = self.pick(texts, written)
        counts = [share_of(self.per_text, text) for text in texts]
        several = [choose_several(*each) for each in zip(written, picked, counts, strict=True)]
        repeated = [text for text, samples in zip(texts, several, strict=True) for _ in samples]
        instructions = [sample.text for samples in several for sample in samples]
        scores = iter(self.score(repeated, instructions, self.gains(repeated, instructions)))
        return [
            [
                {"instruction": sample.text}
                | describe_candidates(list_candidates(own, each.votes))
                | {"log_p": sample.log_p}
                | next(scores)
                for sample in samples
            ]
            for samples, each, own in zip(several, picked, written, strict=True)
        ]


def rank_candidates(written: Written, picked: Picked) -> list[Candidate]:
    """The one that is picked first, then those that agree most."""
    taken = normalise(picked.taken.text)

    def place(each: Candidate) -> tuple[bool, bool, float]:
        return normalise(each.sample.text) != taken, each.votes is None, -(each.votes or 0.0)

    return sorted(list_candidates(written, picked.votes), key=place)


def share_of(per_text: int, text: str) -> int:
    """Instructions for a text, in proportion to its length, where one of CHUNK_WORDS gets `per_text`."""
    if per_text == 1:
        return 1
    return max(1, min(per_text, round(per_text * count_words(text) / CHUNK_WORDS)))


def choose_several(written: Written, picked: Picked, count: int) -> list[Sample]:
    """What is picked and, of the others by rank, those that are no near-duplicates of one before; at most `count`."""
    chosen, shingles = [picked.taken], [shingles_of(normalise(picked.taken.text))]
    for each in rank_candidates(written, picked)[1:] if count > 1 and len(shingles[0]) else ():
        own = shingles_of(normalise(each.sample.text))
        if len(chosen) < count and len(own) and jaccards(own, shingles).max() < THRESHOLD:
            chosen.append(each.sample)
            shingles.append(own)
    return chosen


def describe_candidates(candidates: Sequence[Candidate]) -> Record:
    """As three lists. counts: how often each was sampled; votes: None for a greedy text that was not."""
    return {
        "candidates": [each.sample.text for each in candidates],
        "counts": [each.times for each in candidates],
        "votes": [each.votes for each in candidates],
    }


def example_of(text: str, instruction: str = "", example_id: str = "") -> Example:
    return Example(example_id, instruction, "", text, "")
