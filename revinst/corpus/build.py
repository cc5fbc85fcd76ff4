"""From an input to a finished corpus, stage by stage; a stage or shard that is there already is not made again.

input -> texts.jsonl, discarded.jsonl -> shards/*.jsonl -> scored.jsonl -> dropped.jsonl, dataset.jsonl, ...
         ingest, redaction               candidates        (curation)      filters, parts, output
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from revinst.corpus.candidates import Writer
from revinst.corpus.chunks import document_of, split_record
from revinst.corpus.curation import check_unparsable, rate_records
from revinst.corpus.dropped import KEPT, filter_records, judge_kept
from revinst.corpus.ingest import Ingest
from revinst.corpus.output import write_card, write_dataset
from revinst.corpus.parts import assign_parts
from revinst.corpus.phrases import LANGUAGES, languages_of
from revinst.corpus.planting import plant_canaries
from revinst.corpus.preview import write_page
from revinst.corpus.reading import UNREADABLE
from revinst.corpus.redaction import Redaction
from revinst.corpus.redaction_report import RedactionReport
from revinst.corpus.sample import Sample
from revinst.corpus.settings import Reading, Selection, Writing, check_ours, keep_settings
from revinst.corpus.texts import NotKept, Record, RecordFile, write_records
from revinst.data.language import UNKNOWN_LANGUAGE, find_language
from revinst.errors import UserError
from revinst.launch.ranks import Ranks
from revinst.progress import Stage
from revinst.runs.folder import Run

SAMPLED = 2000  # texts by which it is told what languages there are
USUAL = 0.02  # this share of them makes a language one of the texts'


def placeholder_file(folder: Path) -> Path:
    """Beside the output folder, as all that only its owner may read, so that nobody publishes it with the data."""
    return beside(folder, "placeholders.json")


def canary_file(folder: Path) -> Path:
    return beside(folder, "canaries.json")


def beside(folder: Path, name: str) -> Path:
    """`runs/own` -> `runs/own.NAME`; what it holds is nobody else's business."""
    folder = folder.resolve()  # of `.` too
    return folder.with_name(f"{folder.name}.{name}")


def build_texts_alone(folder: Path, reading: Reading) -> str:
    """Stage 1 with its page, without a run; one may go on from there. Returns for people where it lies."""
    check_ours(folder)
    with Run(folder).lock():
        keep_settings(folder, reading.describe())
        count = len(build_texts(folder, reading, Sample()))
    names = " and ".join(str(folder / name) for name in ("texts.jsonl", "discarded.jsonl"))
    next_ = "next: the same command with --run RUN in place of --texts_only"
    return f"{count} texts, and what was left out: {names}\n{describe_beside(folder)}\n{next_}"


def describe_beside(folder: Path) -> str:
    """For people: the files beside the folder that are there."""
    named = {
        "texts.html": "a page to look at, for your eyes only",
        "placeholders.json": "what the placeholders stand for, for your eyes only",
        "canaries.json": "canaries, for evaluate --secrets",
        "redaction.txt": "what was redacted, and what may have been missed, for your eyes only",
    }
    paths = {beside(folder, name): what for name, what in named.items()}
    return "\n".join(f"{what}: {path}" for path, what in paths.items() if path.is_file())


def build_texts(folder: Path, reading: Reading, sample: Sample | None = None) -> RecordFile:
    """Stage 1: texts.jsonl and discarded.jsonl; with a sample also the page that shows it."""
    path, page = folder / "texts.jsonl", beside(folder, "texts.html")
    if path.is_file() and (sample is None or page.is_file()):
        return RecordFile(path)
    ingest = Ingest(
        reading.source,
        reading.me,
        reading.column,
        reading.limit,
        reading.join_minutes,
        sample,
        contexts=reading.contexts,
    )
    redaction = build_redaction(ingest) if reading.redact else None
    write_records(folder / "discarded.jsonl", describe_discarded(ingest.not_kept, redaction))
    # texts.jsonl, by which a later call knows that this stage is done, comes last
    unnamed = folder / "texts.jsonl.new"
    count = write_records(unnamed, redacted_records(folder, ingest, redaction, reading.split_words))
    if sample:
        write_page(page, reading.source.name, ingest, sample, redaction)
    if redaction:
        redaction.save(placeholder_file(folder))
    if not count:
        unnamed.unlink()
        reasons = Counter(record["reason"] for record in RecordFile(folder / "discarded.jsonl")).most_common(1)
        most = f"; most often: {reasons[0][0]} ({reasons[0][1]})" if reasons else ""
        where = folder / "discarded.jsonl"
        raise UserError(f"{reading.source}: none of its {ingest.num_read} texts can be used{most}; see {where}")
    unnamed.replace(path)
    return RecordFile(path)


def build_redaction(ingest: Ingest) -> Redaction:
    """Of the names in the conversations, mine excepted, in the cases of the languages that the texts are in."""
    languages = Counter(find_language(text.text) for text in islice(ingest.texts(), SAMPLED))
    usual = [name for name, count in languages.items() if count >= USUAL * languages.total()]
    return Redaction(ingest.names, ingest.own_names, usual)


def redacted_records(folder: Path, ingest: Ingest, redaction: Redaction | None, split_words: int) -> Iterator[Record]:
    """The texts as they are kept, long ones in chunks; after the last one what was redacted is reported beside the
    folder.
    """
    report, num_texts = RedactionReport(), ingest.num_read - len(ingest.not_kept)
    with Stage("redacting" if redaction else "writing texts", num_texts, "texts", brief=True) as stage:
        for text in ingest.texts():
            record: Record = asdict(text)
            if redaction:
                record["text"] = redaction.redact(text.text)
                record["context"] = redaction.redact(text.context)
                report.look(f"{text.text}\n\n{text.context}", f"{record['text']}\n\n{record['context']}")
                found = redaction.found.copy()  # in texts; that each has its author says nothing
                record |= {name: redaction.redact(record[name]) for name in ("where", "author")}
                redaction.found = found
            yield from split_record(record, split_words)
            stage.advance()
    if redaction:
        report.write(beside(folder, "redaction.txt"), redaction)


def describe_discarded(records: Iterable[NotKept], redaction: Redaction | None) -> Iterator[dict[str, str]]:
    for record in records:
        texts = asdict(record)
        yield {name: redaction.redact(text) for name, text in texts.items()} if redaction else texts


def build_shards(folder: Path, texts: RecordFile, writer: Callable[[], Writer], writing: Writing, ranks: Ranks) -> int:
    """Stages 2 and 3: instructions and scores, a shard at a time, which ranks share; returns how many texts had none
    yet. A shard does not depend on who makes it.
    """
    numbers = range(count_shards(len(texts), writing.shard_rows))
    missing = ranks.on_first(lambda: [number for number in numbers if not shard_path(folder, number).is_file()])
    if mine := ranks.share(missing):
        build_shards_of(mine, folder, texts, writer(), writing)
    ranks.wait()
    return count_texts(len(texts), missing, writing.shard_rows)


def build_shards_of(missing: list[int], folder: Path, texts: RecordFile, loaded: Writer, writing: Writing) -> None:
    size, num_texts = writing.shard_rows, count_texts(len(texts), missing, writing.shard_rows)
    num_samples = writing.picks.samples + writing.picks.takes_greedy
    with Stage("samples and their scores", num_texts * num_samples) as stage:
        loaded.on_sample = stage.advance
        for number in missing:
            chosen = texts[number * size : (number + 1) * size]
            records = loaded.write_records(chosen)
            if writing.curate:
                ratings = rate_records(loaded, records)
                check_unparsable(ratings, writing.max_unparsable)
                records = [record | {"rating": rating} for record, rating in zip(records, ratings, strict=True)]
            write_records(shard_path(folder, number), records)


def count_texts(num_texts: int, shards: Sequence[int], shard_rows: int) -> int:
    """Of these shards; the last one may have fewer."""
    return sum(min(shard_rows, num_texts - number * shard_rows) for number in shards)


def count_shards(num_texts: int, shard_rows: int) -> int:
    return -(-num_texts // shard_rows)


def shard_path(folder: Path, number: int) -> Path:
    return folder / "shards" / f"{number:05}.jsonl"


def join_shards(folder: Path, num_shards: int) -> RecordFile:
    """All shards as one file, in order."""
    path = folder / "scored.jsonl"
    temporary = path.with_name(".scored.jsonl.tmp")
    with temporary.open("wb") as joined:
        for number in range(num_shards):
            with shard_path(folder, number).open("rb") as shard:
                shutil.copyfileobj(shard, joined)
    temporary.replace(path)
    return RecordFile(path)


def build_dataset(
    folder: Path,
    work: Path,
    selection: Selection,
    settings: dict[str, Any],
    run: dict[str, Any],
    prompt_lines: Sequence[str] = (),
) -> dict[str, Any]:
    """Stages 4 and 5: filters, parts and files from the shards under `work`. Returns the card.

    settings: as `describe`d; they say how many texts a shard has. prompt_lines: of the template, for the filters.
    """
    texts = RecordFile(folder / "texts.jsonl")
    num_chunks = [len(list(chunks)) for _, chunks in groupby(texts, key=document_of)]  # of each text that was read
    scored = join_shards(work, count_shards(len(texts), settings["shard_rows"]))
    rated = "rating" in scored[0]
    unparsable = check_unparsable([record["rating"] for record in scored], 1.0) if rated else None
    dropped = filter_records(scored, selection.limits, prompt_lines, rated)
    judged = judge_kept(dropped, selection.judge, folder, selection.limits.judge) if selection.judge else None
    numbers = np.flatnonzero(dropped.failed == KEPT).tolist()
    write_records(folder / "dropped.jsonl", describe_dropped(scored, dropped))
    if not numbers:
        raise UserError(f"{folder}: no text is left after the filters; see dropped.jsonl, and --filter to loosen them")
    facts = read_columns(scored, numbers)
    parts = assign_parts(
        facts["group"], facts["date"], selection.heldout, selection.val, selection.order, selection.seed
    )
    (folder / "card.json").unlink(missing_ok=True)  # no set stands beside the card of another
    stamped = Stamped(dropped.records, {"round": run["round"], "run": run["name"]})
    records = plant_canaries(stamped, numbers, parts, selection.canaries, selection.seed, canary_file(folder))
    with Stage("writing the data set", brief=True):
        write_dataset(folder, records, numbers, parts, facts["group"])
    reasons = (record["reason"] for record in RecordFile(folder / "discarded.jsonl"))
    discarded = Counter(UNREADABLE if reason.startswith(UNREADABLE) else reason for reason in reasons)
    in_part = Counter(parts)
    card: dict[str, Any] = {
        "counts": {
            "read": len(num_chunks) + discarded.total(),
            "discarded": discarded.total(),
            "split": sum(count > 1 for count in num_chunks),
            "texts": len(texts),
            "texts_of_no_named_author": sum(not text.get("author") for text in texts),
            "candidates": sum(len(next(pairs)["candidates"]) for _, pairs in groupby(scored, key=itemgetter("id"))),
            "pairs": len(scored),
            "dropped": len(dropped),
            "kept": len(numbers),
            "kept_with_context": sum(bool(record["context"]) for record in map(scored.__getitem__, numbers)),
            **{part: in_part[part] for part in ("train", "val", "heldout")},
        },
        "discarded": dict(discarded.most_common()),
        "filters": dropped.to_json(),
        "without_phrases": count_without_phrases(map(scored.__getitem__, numbers)),
        "unparsable_ratings": unparsable,
        # the address is nobody else's business
        "judge": judged and {name: value for name, value in judged.items() if name != "address"},
        "run": run,
        "canaries": {"count": selection.canaries, "seed": selection.seed} if selection.canaries else None,
        # the card is published: from a hash of an address anybody can tell whether a guess is right
        "settings": {name: value for name, value in settings.items() if name not in ("me", "input")},
    }
    write_card(folder, card)
    return card


def count_without_phrases(records: Iterable[Record]) -> dict[str, int]:
    """Language -> pairs that the filters of phrases passed without a look, since there are no lists for it."""
    languages = (languages_of(record["instruction"], record["text"]) for record in records)
    return dict(Counter(names[0] if names else UNKNOWN_LANGUAGE for names in languages if LANGUAGES.isdisjoint(names)))


def read_columns(records: Sequence[Record], numbers: Sequence[int]) -> np.ndarray:
    """Group (16 hex digits) and date (ISO 8601 in UTC or nothing) of some records, 41 bytes a record."""
    pairs = ((record["group"], record["date"]) for record in map(records.__getitem__, numbers))
    return np.fromiter(pairs, [("group", "S16"), ("date", "S25")], len(numbers))


class Stamped(Sequence[Record]):
    """Records with the same fields added to each."""

    def __init__(self, records: Sequence[Record], fields: dict[str, Any]):
        self.records, self.fields = records, fields

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> Record:  # type: ignore[override]  # nobody asks for a slice
        return self.records[number] | self.fields


def describe_dropped(records: Sequence[Record], dropped: Mapping[int, tuple[str, str]]) -> Iterator[Record]:
    for number, (name, reason) in dropped.items():
        record = records[number]
        yield {"id": record["id"], "where": record["where"], "instruction": record["instruction"]} | {
            "filter": name,
            "reason": reason,
        }
