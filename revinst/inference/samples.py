"""Several samples of a text, and which of them is taken: the one stage of `generate`, `evaluate`, `corpus` and `demo`.

prompt ──> Written ────────────────> votes ───> Picked
           writing.write_samples     agree      pick_all
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from revinst.data.words import normalise
from revinst.inference.picks import PickSettings
from revinst.inference.votes import agree


class Sample(NamedTuple):
    """A text that was written. log_p: of it and what ended it, in nats. num_tokens: without that.

    stopped: eos, header or length.
    """

    text: str
    log_p: float
    num_tokens: int
    stopped: str

    @property
    def log_p_a_token(self) -> float:
        return self.log_p / max(self.num_tokens + (self.stopped != "length"), 1)


@dataclass(frozen=True, slots=True)
class Written:
    """All that was written for one text. greedy: None where nobody asked for it."""

    samples: list[Sample]
    greedy: Sample | None = None

    @property
    def texts(self) -> list[str]:
        """Of the samples."""
        return [sample.text for sample in self.samples]


@dataclass(frozen=True, slots=True)
class Picked:
    """What one text got. number: of the sample that was taken; None: the greedy text was. votes: of each sample."""

    taken: Sample
    number: int | None
    votes: list[float]

    def describe(self, written: Written, picks: PickSettings) -> dict[str, object]:
        """What a prediction was taken from, as fields of its row."""
        samples: dict[str, object] = {"samples": written.texts}
        if not picks.pick:
            return samples
        return samples | {"votes": self.votes, "pick": picks.pick, "picked": self.number}


def pick_all(
    written: Sequence[Written], picks: PickSettings, measure_help: Callable[[], Sequence[Sequence[float]]]
) -> list[Picked]:
    """What is taken of each text's. measure_help: what `round_trip` goes by: how much each sample helps its text."""
    votes = [agree(each.texts, picks.utility) for each in written]
    numbers: Sequence[int | None]
    if picks.takes_greedy:
        numbers = [None] * len(written)
    elif picks.pick in ("greedy", ""):
        numbers = [0] * len(written)
    else:
        worth: Sequence[Sequence[float]] = votes
        if picks.pick == "likelihood":
            worth = [[sample.log_p_a_token for sample in each.samples] for each in written]
        elif picks.pick == "round_trip":
            worth = measure_help()
        numbers = [best_number(each.texts, values) for each, values in zip(written, worth, strict=True)]
    return [
        Picked(take(each, number), number, found) for each, number, found in zip(written, numbers, votes, strict=True)
    ]


def take(written: Written, number: int | None) -> Sample:
    if number is not None:
        return written.samples[number]
    assert written.greedy is not None
    return written.greedy


def best_number(texts: Sequence[str], worth: Sequence[float]) -> int:
    """The number of the text with the highest worth, of equals the first; an empty one or NaN only among its like.

    >>> best_number(["", "a", "b", "b"], [0.9, 0.1, 0.5, 0.5])
    2
    """
    pairs = zip(texts, worth, strict=True)
    values = [(bool(text.strip()), -math.inf if math.isnan(value) else value) for text, value in pairs]
    return values.index(max(values))


class Candidate(NamedTuple):
    """Texts that say the same, under the first of them. number: of that sample; None: the greedy text. times: sampled.

    votes: None for a greedy text that was not sampled as well.
    """

    sample: Sample
    number: int | None
    times: int
    votes: float | None


def list_candidates(written: Written, votes: Sequence[float]) -> list[Candidate]:
    """The distinct ones, in the order in which they were written, the greedy text first."""
    found: dict[str, Candidate] = {}
    if written.greedy is not None:
        found[normalise(written.greedy.text)] = Candidate(written.greedy, None, 0, None)
    for number, (sample, value) in enumerate(zip(written.samples, votes, strict=True)):
        known = found.get(key := normalise(sample.text))
        if known is None:
            found[key] = Candidate(sample, number, 1, value)
        else:
            known_votes = value if known.votes is None else known.votes
            found[key] = known._replace(times=known.times + 1, votes=known_votes)
    return list(found.values())
