"""Instructions for texts: k candidates each from the trained model, one picked, and how well it fits its text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from revinst.corpus.texts import Record
from revinst.data.examples import Example, build_text
from revinst.data.formats import BadRecord
from revinst.data.prompt import Template, load_template
from revinst.data.words import normalise
from revinst.evaluation.samples import agree
from revinst.inference.engine.engine import Engine
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.likelihood import log_likelihoods
from revinst.inference.trained import Trained
from revinst.model.network import Network

UNREAD: Record = {"instruction": "", "candidates": [], "log_p": None, "gain": None, "ifd": None, "rifd": None}


@dataclass(slots=True)
class Candidate:
    """One instruction; log_p in nats given its text, EOS included. gain: see `Writer.gains`, NaN until known.

    sample: which of its text's it was written as first, 0 the greedy one. num_tokens: EOS included. count: how often it
    was written.
    """

    instruction: str
    log_p: float
    gain: float = float("nan")
    count: int = 1
    sample: int = 0
    num_tokens: int = 1

    @property
    def how(self) -> str:
        return f"sample {self.sample}" if self.sample else "greedy"


class Writer:
    """A trained model that writes and judges instructions.

    network: with the adapter of the run; without it, it is the base that judges.
    on_candidate: is told (1, its tokens) of each candidate, repeats included, as soon as it is written.
    """

    on_candidate: Callable[[int, int], None] = staticmethod(lambda count, tokens: None)

    def __init__(self, trained: Trained, network: Network, settings: GenerationSettings):
        self.trained, self.network, self.settings, self.tokenizer = trained, network, settings, trained.tokenizer
        self.response_template = load_template("forward")
        self.engine = Engine(network, trained.tokenizer, settings, trained.template.headers)

    def write(self, texts: Sequence[str], k: int) -> list[list[Candidate]]:
        """Distinct candidates of each text: the greedy one first, then k - 1 samples, each with a seed of its own."""
        prompts = self.trained.encode_to_generate([example_of(text) for text in texts], self.settings.max_new_tokens)
        samples: list[int | None] = [None, *range(1, k)]
        made = []
        for each in self.engine.generate([ids for ids in prompts.ids for _ in samples], samples=samples * len(texts)):
            made.append(each)
            self.on_candidate(1, len(each[1].token_ids))
        written: list[list[Candidate]] = [[] for _ in texts]
        for place, generated in sorted(made, key=lambda each: each[0]):
            candidates, text = written[place // k], self.tokenizer.decode(generated.token_ids).strip()
            known = next((each for each in candidates if normalise(each.instruction) == normalise(text)), None)
            if known is None:
                tokens = max(len(generated.token_ids) + (generated.stopped == "eos"), 1)
                candidates.append(Candidate(text, generated.log_p, sample=place % k, num_tokens=tokens))
            else:
                known.count += 1
        return written

    def suggest(self, text: str, k: int, temperature: float) -> list[tuple[Candidate, float]]:
        """A text's candidates with `agree_with_all`: the greedy one first, then the samples that agree most.

        Raises BadRecord for a text that `fit` would not have taken.
        """
        text = build_text(text, self.trained.strip_citations).response
        writer = Writer(self.trained, self.network, replace(self.settings, temperature=temperature))
        (candidates,) = writer.write([text], k)
        found = zip(candidates, agree_with_all(candidates), strict=True)
        return sorted(found, key=lambda each: (each[0].sample > 0, -each[1]))

    def pick(self, texts: Sequence[str], written: Sequence[Sequence[Candidate]], how: str) -> list[int]:
        """The number of each text's best candidate: likeliest, most like the others, or most help to write the text."""
        if how == "likelihood":
            return [int(np.argmax([each.log_p for each in candidates])) for candidates in written]
        if how == "consensus":
            return [pick_consensus(candidates) for candidates in written]
        pairs = [(text, each) for text, candidates in zip(texts, written, strict=True) for each in candidates]
        gains = self.gains([text for text, _ in pairs], [each.instruction for _, each in pairs])
        for (_, each), gain in zip(pairs, gains.tolist(), strict=True):
            each.gain = gain
        return [int(np.argmax([np.nan_to_num(each.gain, nan=-np.inf) for each in c])) for c in written]

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

    def write_records(self, records: Sequence[Record], k: int, how: str) -> list[Record]:
        """The records with instruction, candidates, pick and scores; no instruction for a text that can't be read."""
        texts = [self.prepare(record["text"]) for record in records]
        known = iter(self.write_texts([text for text in texts if text], k, how))
        return [
            record | {"pick": how} | (next(known) if text else UNREAD)
            for record, text in zip(records, texts, strict=True)
        ]

    def prepare(self, text: str) -> str:
        """As the run reads it; empty where it would not have been trained on it."""
        try:
            return build_text(text, self.trained.strip_citations).response
        except BadRecord:
            return ""

    def write_texts(self, texts: Sequence[str], k: int, how: str) -> list[Record]:
        """instruction, candidates and scores of each text."""
        if not texts:
            return []
        written = self.write(texts, k)
        picked = self.pick(texts, written, how)
        chosen = [candidates[number] for candidates, number in zip(written, picked, strict=True)]
        instructions = [each.instruction for each in chosen]
        gains = np.array([each.gain for each in chosen])
        if how != "round_trip":
            gains = self.gains(texts, instructions)
        scores = self.score(texts, instructions, gains)
        return [
            {
                "instruction": each.instruction,
                "candidates": [other.instruction for other in candidates],
                "log_p": each.log_p,
            }
            | score
            for each, candidates, score in zip(chosen, written, scores, strict=True)
        ]


def pick_consensus(candidates: Sequence[Candidate]) -> int:
    """The number of the one most like all that was written, the first of several."""
    return int(np.argmax(agree_with_all(candidates)))


def agree_with_all(candidates: Sequence[Candidate]) -> list[float]:
    """Mean ROUGE-L of each to all others that were written, equal ones among them; 1.0 where there is no other."""
    numbers = [number for number, each in enumerate(candidates) for _ in range(each.count)]
    found = dict(zip(numbers, agree([candidates[number].instruction for number in numbers]), strict=True))
    return [found[number] for number in range(len(candidates))]


def example_of(text: str, instruction: str = "", example_id: str = "") -> Example:
    return Example(example_id, instruction, "", text, "")
