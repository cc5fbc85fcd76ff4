"""The finished data set: one record in four forms, the split, what became of every text, and a card."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from revinst.corpus.texts import Record, write_records
from revinst.data.examples import content_id, make_unique
from revinst.data.split import Split
from revinst.export.publish import PUBLISHED
from revinst.runs.files import hash_file, whole_file, write_json, write_text

BATCH_RECORDS = 1000
AT_HOME = " (stays with the owner)"
HUB_HEADER = ("---", "configs:", "- config_name: default", "  data_files: dataset.parquet", "---", "")
COLUMNS = ("id", "instruction", "context", "response", "category", "part", "group", "date")
PROVENANCE = (
    "where", "kind", "date", "group", "round", "run", "pick", "candidates", "counts", "votes", "log_p", "gain", "ifd",
    "rifd",
)  # fmt: skip


def to_dolly(record: Record) -> dict[str, str]:
    fields = {"instruction": record["instruction"], "context": record["context"], "response": record["text"]}
    return fields | {"category": record["kind"]}


def to_alpaca(record: Record) -> dict[str, str]:
    return {"instruction": record["instruction"], "input": record["context"], "output": record["text"]}


def to_messages(record: Record) -> dict[str, list[dict[str, str]]]:
    request = "\n\n".join(filter(None, (record["instruction"], record["context"])))
    turns = (("user", request), ("assistant", record["text"]))
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


FORMS: dict[str, Callable[[Record], Record]] = {
    "dataset.jsonl": to_dolly,
    "alpaca.jsonl": to_alpaca,
    "messages.jsonl": to_messages,
}


def write_dataset(
    folder: Path, records: Sequence[Record], numbers: Sequence[int], parts: Sequence[str], groups: np.ndarray
) -> None:
    """Writes the kept records in every form, a record at a time; `data.split: FOLDER/split.json` uses the parts.

    numbers: of the kept ones in `records`, which may lie in a file; parts, groups: of each kept one.
    """
    for name, form in FORMS.items():
        write_records(folder / name, (form(records[number]) for number in numbers))
    ids = list(name_records(records, numbers))
    write_records(folder / "provenance.jsonl", describe_provenance(records, numbers, ids, parts))
    write_parquet(folder / "dataset.parquet", records, numbers, ids, parts)
    members: dict[str, list[str]] = {"train": [], "val": [], "heldout": []}
    for example_id, part in zip(ids, parts, strict=True):
        members[part].append(example_id)
    write_json(folder / "split.json", Split(**members, groups=join_ids(ids, groups)).to_json())


def join_ids(ids: Sequence[str], groups: np.ndarray) -> list[list[str]]:
    """Ids of records of one group, for groups of two and more."""
    order = np.argsort(groups, kind="stable")
    bounds = np.flatnonzero(groups[order][1:] != groups[order][:-1]) + 1
    starts, stops = [0, *bounds.tolist()], [*bounds.tolist(), len(order)]
    return sorted(
        sorted(ids[place] for place in order[start:stop])
        for start, stop in zip(starts, stops, strict=True)
        if stop - start > 1
    )


def name_records(records: Sequence[Record], numbers: Sequence[int]) -> Iterator[str]:
    """The ids that `data/examples.py` gives to the lines of dataset.jsonl."""
    repeats: Counter[str] = Counter()
    for number in numbers:
        yield make_unique(content_id(to_dolly(records[number])), repeats)


def describe_provenance(
    records: Sequence[Record], numbers: Sequence[int], ids: Sequence[str], parts: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for number, example_id, part in zip(numbers, ids, parts, strict=True):
        record = records[number]
        facts: Record = {"id": example_id, "text": record["id"], "part": part}
        facts |= {name: record[name] for name in PROVENANCE}
        yield facts | {name: record[name] for name in ("document", "rating", "judge") if name in record}


def write_parquet(
    path: Path, records: Sequence[Record], numbers: Sequence[int], ids: Sequence[str], parts: Sequence[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for start in range(0, len(numbers), BATCH_RECORDS):
            batch = range(start, min(start + BATCH_RECORDS, len(numbers)))
            block = []
            for place in batch:
                record = records[numbers[place]]
                extra = {"id": ids[place], "part": parts[place], "group": record["group"], "date": record["date"]}
                block.append(to_dolly(record) | extra)
            writer.write_table(pa.Table.from_pylist(block, schema=schema))


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """card.json, and the same for people in README.md."""
    names = [*FORMS, "dataset.parquet", "provenance.jsonl", "split.json", "discarded.jsonl", "dropped.jsonl"]
    card["sha256"] = {name: hash_file(folder / name) for name in names}
    write_json(folder / "card.json", card)
    counts, run = card["counts"], card["run"]
    lines = [
        *HUB_HEADER,
        "# Instructions for own texts",
        "",
        f"{counts['kept']} pairs of an instruction and a text. A person wrote the texts; a model wrote the",
        f"instructions: `{run['name']}` (adapter {run['adapter']}, base `{run['base']}`).",
        "Personal names and numbers were replaced by placeholders." if card["settings"]["redact"] else "",
        *describe_canaries(card["canaries"]),
        "`context` is what others wrote, and the texts answer." if card["settings"]["contexts"] else "",
        "",
        "| stage | rows |",
        "| --- | --- |",
        *(f"| {name} | {count} |" for name, count in counts.items()),
        "",
        "Left out when reading:",
        "",
        *(f"- {reason}: {count}" for reason, count in card["discarded"].items()),
        "",
        "| filter | threshold | kept | dropped |",
        "| --- | --- | --- | --- |",
        *(
            f"| {each['name']} | {describe_threshold(each['threshold'])} | {each['kept']} | {each['dropped']} |"
            for each in card["filters"]
        ),
        *describe_languages(card["without_phrases"]),
        "",
        "| file | SHA-256 |",
        "| --- | --- |",
        *(f"| {name}{'' if name in PUBLISHED else AT_HOME} | `{digest}` |" for name, digest in card["sha256"].items()),
        "",
        "How it was made: " + json.dumps(card["settings"], ensure_ascii=False),
    ]
    write_text(folder / "README.md", "\n".join(lines) + "\n")


def describe_canaries(canaries: dict[str, int] | None) -> list[str]:
    if not canaries:
        return []
    many = f"{canaries['count']} training texts end with a made string (seed {canaries['seed']})"
    return ["", f"{many}; the set is for a test of what a model gives away, and not to be published."]


def describe_languages(without_phrases: dict[str, int]) -> list[str]:
    if not without_phrases:
        return []
    named = ", ".join(f"{language} ({count})" for language, count in without_phrases.items())
    return [
        "",
        f"Not looked at by meta_instruction and dangling_reference, which have no phrases in their language: {named}.",
    ]


def describe_threshold(threshold: float | bool | None) -> str:
    """For people: a filter without a number is on, or can't be switched off."""
    return "always" if threshold is None else "on" if threshold is True else f"{threshold:g}"


def build_card_table(card: dict[str, Any]) -> Table:
    table = Table(title="from texts to pairs")
    table.add_column("stage")
    table.add_column("rows", justify="right")
    for name, count in card["counts"].items():
        table.add_row(name, str(count))
    table.add_section()
    for each in card["filters"]:
        if each["dropped"]:
            table.add_row(f"dropped: {each['name']}", str(each["dropped"]))
    if missing := [part for part in ("val", "heldout") if not card["counts"].get(part)]:
        what = " and no ".join(missing)
        table.caption = f"no {what} rows: a thread or chat is never split, and too few others are left"
    return table
