"""From an input to a finished corpus, stage by stage; a stage or shard that is there already is not made again.

input -> texts.jsonl, discarded.jsonl -> shards/*.jsonl -> scored.jsonl -> dropped.jsonl, dataset.jsonl, ...
         ingest, redaction               candidates        (curation)      filters, parts, output
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from revinst.corpus.candidates import Writer
from revinst.corpus.curation import check_unparsable, rate_rows
from revinst.corpus.dropped import KEPT, filter_rows
from revinst.corpus.filters import Row
from revinst.corpus.ingest import UNREADABLE, Ingest
from revinst.corpus.output import write_card, write_dataset
from revinst.corpus.parts import assign_parts
from revinst.corpus.redaction import Redaction
from revinst.corpus.settings import Reading, Selection, Writing
from revinst.corpus.texts import NotKept, RowFile, write_rows
from revinst.errors import UserError
from revinst.launch.ranks import Ranks
from revinst.progress import Stage


def placeholder_file(folder: Path) -> Path:
    """Beside the output folder, so that nobody publishes it with the data."""
    folder = folder.resolve()  # of `.` too
    return folder.with_name(folder.name + ".placeholders.json")


def build_texts(folder: Path, reading: Reading) -> RowFile:
    """Stage 1: texts.jsonl and discarded.jsonl."""
    path = folder / "texts.jsonl"
    if not path.is_file():
        ingest = Ingest(reading.source, reading.me, reading.column, reading.limit)
        redaction = Redaction(ingest.names) if reading.redact else None
        write_rows(folder / "discarded.jsonl", describe_discarded(ingest.not_kept, redaction))
        # texts.jsonl, by which a later call knows that this stage is done, comes last
        unnamed = folder / "texts.jsonl.new"
        num_texts = ingest.num_read - len(ingest.not_kept)
        with Stage("redacting" if redaction else "writing texts", num_texts, "texts", brief=True) as stage:
            count = write_rows(unnamed, redacted_rows(ingest, redaction, stage))
        if redaction:
            redaction.save(placeholder_file(folder))
        if not count:
            unnamed.unlink()
            reasons = Counter(row["reason"] for row in RowFile(folder / "discarded.jsonl")).most_common(1)
            most = f"; most often: {reasons[0][0]} ({reasons[0][1]})" if reasons else ""
            where = folder / "discarded.jsonl"
            raise UserError(f"{reading.source}: none of its {ingest.num_read} texts can be used{most}; see {where}")
        unnamed.replace(path)
    return RowFile(path)


def redacted_rows(ingest: Ingest, redaction: Redaction | None, stage: Stage) -> Iterator[Row]:
    for text in ingest.texts():
        row: Row = dict(text.to_row())
        if redaction:
            row |= {"text": redaction.redact(row["text"]), "where": redaction.redact(row["where"])}
        yield row
        stage.advance()


def describe_discarded(rows: Iterable[NotKept], redaction: Redaction | None) -> Iterator[dict[str, str]]:
    for row in rows:
        texts = asdict(row)
        yield {name: redaction.redact(text) for name, text in texts.items()} if redaction else texts


def build_shards(folder: Path, texts: RowFile, writer: Callable[[], Writer], writing: Writing, ranks: Ranks) -> int:
    """Stages 2 and 3: instructions and scores, a shard at a time, which ranks share; returns how many texts had none
    yet. A shard does not depend on who makes it.
    """
    numbers = range(count_shards(len(texts), writing.shard_rows))
    missing = ranks.on_first(lambda: [number for number in numbers if not shard_path(folder, number).is_file()])
    if mine := ranks.share(missing):
        build_shards_of(mine, folder, texts, writer(), writing)
    ranks.wait()
    return count_texts(len(texts), missing, writing.shard_rows)


def build_shards_of(missing: list[int], folder: Path, texts: RowFile, loaded: Writer, writing: Writing) -> None:
    size, num_texts = writing.shard_rows, count_texts(len(texts), missing, writing.shard_rows)
    with Stage("candidates and their scores", num_texts * writing.candidates) as stage:
        loaded.on_candidate = stage.advance
        for number in missing:
            chosen = texts[number * size : (number + 1) * size]
            rows = loaded.write_rows(chosen, writing.candidates, writing.pick)
            if writing.curate:
                ratings = rate_rows(loaded, rows)
                check_unparsable(ratings, writing.max_unparsable)
                rows = [row | {"rating": rating} for row, rating in zip(rows, ratings, strict=True)]
            write_rows(shard_path(folder, number), rows)


def count_texts(num_texts: int, shards: Sequence[int], shard_rows: int) -> int:
    """Of these shards; the last one may have fewer."""
    return sum(min(shard_rows, num_texts - number * shard_rows) for number in shards)


def count_shards(num_texts: int, shard_rows: int) -> int:
    return -(-num_texts // shard_rows)


def shard_path(folder: Path, number: int) -> Path:
    return folder / "shards" / f"{number:05}.jsonl"


def join_shards(folder: Path, num_shards: int) -> RowFile:
    """All shards as one file, in order."""
    path = folder / "scored.jsonl"
    temporary = path.with_name(".scored.jsonl.tmp")
    with temporary.open("wb") as joined:
        for number in range(num_shards):
            with shard_path(folder, number).open("rb") as shard:
                shutil.copyfileobj(shard, joined)
    temporary.replace(path)
    return RowFile(path)


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
    texts = RowFile(folder / "texts.jsonl")
    scored = join_shards(work, count_shards(len(texts), settings["shard_rows"]))
    rated = "rating" in scored[0]
    unparsable = check_unparsable([row["rating"] for row in scored], 1.0) if rated else None
    dropped = filter_rows(scored, selection.limits, prompt_lines, rated)
    numbers = np.flatnonzero(dropped.failed == KEPT).tolist()
    write_rows(folder / "dropped.jsonl", describe_dropped(scored, dropped))
    if not numbers:
        raise UserError(f"{folder}: no text is left after the filters; see dropped.jsonl, and --filter to loosen them")
    facts = read_columns(scored, numbers)
    parts = assign_parts(
        facts["group"], facts["date"], selection.heldout, selection.val, selection.order, selection.seed
    )
    rows = Stamped(scored, {"round": run["round"], "run": run["name"]})
    with Stage("writing the data set", brief=True):
        write_dataset(folder, rows, numbers, parts, facts["group"])
    reasons = (row["reason"] for row in RowFile(folder / "discarded.jsonl"))
    discarded = Counter(UNREADABLE if reason.startswith(UNREADABLE) else reason for reason in reasons)
    in_part = Counter(parts)
    card: dict[str, Any] = {
        "counts": {
            "read": len(texts) + discarded.total(),
            "discarded": discarded.total(),
            "texts": len(texts),
            "candidates": sum(len(row["candidates"]) for row in scored),
            "dropped": len(dropped),
            "kept": len(numbers),
            **{part: in_part[part] for part in ("train", "val", "heldout")},
        },
        "discarded": dict(discarded.most_common()),
        "filters": dropped.to_json(),
        "unparsable_ratings": unparsable,
        "run": run,
        # the card is published: from a hash of an address anybody can tell whether a guess is right
        "settings": {name: value for name, value in settings.items() if name not in ("me", "input")},
    }
    write_card(folder, card)
    return card


def read_columns(rows: Sequence[Row], numbers: Sequence[int]) -> np.ndarray:
    """Group (16 hex digits) and date (ISO 8601 in UTC or nothing) of some rows, 41 bytes a row."""
    pairs = ((row["group"], row["date"]) for row in map(rows.__getitem__, numbers))
    return np.fromiter(pairs, [("group", "S16"), ("date", "S25")], len(numbers))


class Stamped(Sequence[Row]):
    """Rows with the same fields added to each."""

    def __init__(self, rows: Sequence[Row], fields: dict[str, Any]):
        self.rows, self.fields = rows, fields

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: Any) -> Any:
        return self.rows[number] | self.fields


def describe_dropped(rows: Sequence[Row], dropped: Mapping[int, tuple[str, str]]) -> Iterator[Row]:
    for number, (name, reason) in dropped.items():
        row = rows[number]
        yield {"id": row["id"], "where": row["where"], "instruction": row["instruction"]} | {
            "filter": name,
            "reason": reason,
        }
