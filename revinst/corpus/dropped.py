"""What the filters drop: each record keeps the name of the first filter that it failed, and why."""

import multiprocessing
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from revinst.corpus.chunks import document_of
from revinst.corpus.filters import Filter, Thresholds, at_least, build_filters
from revinst.corpus.texts import Record
from revinst.data.overlap import jaccards, near_duplicates, shingles_of
from revinst.data.words import normalise
from revinst.evaluation.judge import Judge, Use
from revinst.evaluation.judge_settings import JudgeSettings
from revinst.evaluation.summary import none_if_nan
from revinst.progress import Stage
from revinst.system import count_processors

CHUNK_RECORDS = 512
PARALLEL_FROM = 16 * CHUNK_RECORDS  # fewer are judged before other processes are at work
KEPT = -1


class Dropped(Mapping[int, tuple[str, str]]):
    """Number of each dropped record -> its filter and the reason, found again when it is asked for: 9 bytes a record.

    failed: place in `filters` of the one that a record failed, int8 `[records]`, or KEPT. like: of a near-duplicate,
    the record that stays, int64 `[records]`.
    """

    def __init__(self, records: Sequence[Record], filters: Sequence[Filter], failed: np.ndarray):
        self.records, self.filters, self.failed = records, filters, failed
        self.like = np.zeros(len(records), dtype=np.int64)

    def __getitem__(self, number: int) -> tuple[str, str]:
        if number not in self:
            raise KeyError(number)
        each = self.filters[self.failed[number]]
        if each.name.startswith("duplicate_"):
            return each.name, f"like the row {self.records[int(self.like[number])]['id']}"
        return each.name, each.why_not(self.records[number])

    def __contains__(self, number: Any) -> bool:
        return bool(self.failed[number] != KEPT)

    def __iter__(self) -> Iterator[int]:
        yield from np.flatnonzero(self.failed != KEPT).tolist()

    def __len__(self) -> int:
        return int((self.failed != KEPT).sum())

    def to_json(self) -> list[dict[str, Any]]:
        """Counts of each filter, in order: what it was given is what the one before it kept."""
        counts, found, left = np.bincount(self.failed + 1, minlength=len(self.filters) + 1), [], len(self.records)
        for each, dropped in zip(self.filters, counts[1:].tolist(), strict=True):
            left -= dropped
            found.append({"name": each.name, "threshold": each.threshold, "kept": left, "dropped": dropped})
        return found


def filter_records(records: Sequence[Record], limits: Thresholds, prompt_lines: Sequence[str], rated: bool) -> Dropped:
    """records may lie in a file (`RecordFile`): they are read in passes, and only numbers are kept."""
    filters = build_filters(limits, prompt_lines, rated)
    late = [
        Filter(f"duplicate_{name}", getattr(limits, f"duplicate_{name}"), lambda record: "")
        for name in ("in_document", "text", "instruction")
        if getattr(limits, f"duplicate_{name}") is not None
    ]
    with Stage("filters", len(records), "pairs", brief=True) as stage:
        failed = np.empty(len(records), np.int8)
        for number, place in enumerate(judge_records(records, limits, prompt_lines, rated)):
            failed[number] = place
            stage.advance()
    dropped = Dropped(records, [*filters, *late], failed)
    for each in late:
        (drop_in_documents if each.name == "duplicate_in_document" else drop_duplicates)(records, each, dropped)
    return dropped


def judge_records(
    records: Sequence[Record], limits: Thresholds, prompt_lines: Sequence[str], rated: bool
) -> Iterator[int]:
    """The place of the first filter that each record fails, or KEPT.

    Many records are spread over the processors.
    """
    processes, settings = count_processors(), (limits, prompt_lines, rated)
    if len(records) < PARALLEL_FROM or processes == 1:
        start_judge(*settings)
        for chunk in chunks_of(records):
            yield from judge_chunk(chunk)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process that has used the GPU or threads may hang
    with context.Pool(
        min(processes, len(records) // CHUNK_RECORDS), start_judge, (limits, prompt_lines, rated)
    ) as pool:
        for failed in pool.imap(judge_chunk, chunks_of(records)):
            yield from failed


def chunks_of(records: Iterable[Record]) -> Iterator[list[Record]]:
    iterator = iter(records)
    while chunk := list(islice(iterator, CHUNK_RECORDS)):
        yield chunk


FILTERS: list[Filter] = []  # of a process that judges; they hold functions, which can't be sent


def start_judge(limits: Thresholds, prompt_lines: Sequence[str], rated: bool) -> None:
    FILTERS[:] = build_filters(limits, prompt_lines, rated)


def judge_chunk(records: list[Record]) -> list[int]:
    return [next((place for place, each in enumerate(FILTERS) if each.why_not(record)), KEPT) for record in records]


class WithRatings(Sequence[Record]):
    """Records with a judge's rating as the field `judge`; None where there is none."""

    def __init__(self, records: Sequence[Record], ratings: np.ndarray):
        self.records, self.ratings = records, ratings

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> Record:  # type: ignore[override]  # nobody asks for a slice
        return self.records[number] | {"judge": none_if_nan(self.ratings[number])}


def judge_kept(dropped: Dropped, settings: JudgeSettings, folder: Path, limit: float | None) -> Use:
    """Asks a judge about what every other filter keeps, and drops what it rates lower, or not at all. Answers are kept
    in the folder. Returns what it took.
    """
    judge = Judge(settings, folder, "rating")
    numbers = np.flatnonzero(dropped.failed == KEPT)
    pairs = (dropped.records[number] for number in numbers[: settings.limit].tolist())
    answers = judge.answer([judge.rate(pair["text"], pair["instruction"]) for pair in pairs])
    ratings = np.full(len(dropped.records), np.nan)
    ratings[numbers[: settings.limit]] = [np.nan if answer is None else answer for answer in answers]
    dropped.records = WithRatings(dropped.records, ratings)
    if limit is not None:
        late = at_least("judge", limit, lambda pair: pair["judge"], "points by the judge")
        dropped.filters = [*dropped.filters, late]
        dropped.failed[numbers[~(ratings[numbers] >= limit)]] = len(dropped.filters) - 1
    return judge.describe()


class Column(Sequence[str]):
    """One field of some records, normalised, in a file without a name: 16 bytes a record in memory.

    numbers: of the records in it, which are those with a word (or number) in the field, int64.
    """

    def __init__(self, records: Sequence[Record], numbers: np.ndarray, field: str):
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        lines = (self.file.write(normalise(records[number][field]).encode() + b"\n") for number in numbers.tolist())
        sizes = np.fromiter(lines, np.int64, len(numbers))
        has_words = sizes > 1
        self.numbers, self.starts = numbers[has_words], (sizes.cumsum() - sizes)[has_words]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, place: int) -> str:  # type: ignore[override]  # nobody asks for a slice
        self.file.seek(int(self.starts[place]))
        return self.file.readline()[:-1].decode()


def drop_in_documents(records: Sequence[Record], each: Filter, dropped: Dropped) -> None:
    """Of a document's instructions that are alike the first stays: its chunks say much the same."""
    assert each.threshold is not None, f"{each.name} is off"
    kept = np.flatnonzero(dropped.failed == KEPT).tolist()
    for _, members in groupby(kept, key=lambda number: document_of(records[number])):
        first, *others = members
        staying = [first]
        shingles = [shingles_of(normalise(records[first]["instruction"]))] if others else []
        for number in others:
            own = shingles_of(normalise(records[number]["instruction"]))
            alike = jaccards(own, shingles)
            if alike.max() >= each.threshold:
                dropped.failed[number] = dropped.filters.index(each)
                dropped.like[number] = staying[int(alike.argmax())]
            else:
                staying.append(number)
                shingles.append(own)


def drop_duplicates(records: Sequence[Record], each: Filter, dropped: Dropped) -> None:
    """Of records that are alike the first stays; of a text with several instructions all go or none."""
    noun = each.name.removeprefix("duplicate_")
    kept = np.flatnonzero(dropped.failed == KEPT)
    others = list_others(records, kept) if noun == "text" else {}
    column = Column(records, np.setdiff1d(kept, np.array([*chain(*others.values())], np.int64)), noun)
    first = np.arange(len(column))
    assert each.threshold is not None, f"{each.name} is off"
    for low, high in near_duplicates(column, each.threshold, lambda low, high: bool(first[high] <= low), f"{noun}s"):
        first[high] = low
    place = dropped.filters.index(each)
    for high in np.flatnonzero(first < np.arange(len(column))).tolist():
        number, like = column.numbers[high], column.numbers[first[high]]
        if like not in dropped:  # else the record that it is like is gone itself
            members = [number, *others.get(int(number), ())]
            dropped.failed[members], dropped.like[members] = place, like


def list_others(records: Sequence[Record], numbers: np.ndarray) -> dict[int, list[int]]:
    """Of texts with several records, which stand side by side: the first one's number -> the others'."""
    by_text = (list(each) for _, each in groupby(numbers.tolist(), key=lambda number: str(records[number]["id"])))
    return {first: others for first, *others in by_text if others}
