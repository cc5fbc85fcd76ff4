"""The finished data set: one row in four forms, the split, what became of every text, and a card."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from revinst.corpus.filters import Row
from revinst.corpus.texts import write_rows
from revinst.data.examples import content_id, make_unique
from revinst.data.split import Split
from revinst.export.publish import PUBLISHED
from revinst.runs.files import hash_file, whole_file, write_json, write_text

BATCH_ROWS = 1000
AT_HOME = " (stays with the owner)"
HUB_HEADER = ("---", "configs:", "- config_name: default", "  data_files: dataset.parquet", "---", "")
COLUMNS = ("id", "instruction", "context", "response", "category", "part", "group", "date")
PROVENANCE = ("where", "kind", "date", "group", "round", "run", "pick", "candidates", "log_p", "gain", "ifd", "rifd")


def to_dolly(row: Row) -> dict[str, str]:
    return {"instruction": row["instruction"], "context": "", "response": row["text"], "category": row["kind"]}


def to_alpaca(row: Row) -> dict[str, str]:
    return {"instruction": row["instruction"], "input": "", "output": row["text"]}


def to_messages(row: Row) -> dict[str, list[dict[str, str]]]:
    turns = (("user", row["instruction"]), ("assistant", row["text"]))
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


FORMS: dict[str, Callable[[Row], Row]] = {
    "dataset.jsonl": to_dolly,
    "alpaca.jsonl": to_alpaca,
    "messages.jsonl": to_messages,
}


def write_dataset(
    folder: Path, rows: Sequence[Row], numbers: Sequence[int], parts: Sequence[str], groups: np.ndarray
) -> None:
    """Writes the kept rows in every form, a row at a time; `data.split: FOLDER/split.json` uses the parts.

    numbers: of the kept rows in `rows`, which may lie in a file; parts, groups: of each kept row.
    """
    for name, form in FORMS.items():
        write_rows(folder / name, (form(rows[number]) for number in numbers))
    ids = list(name_rows(rows, numbers))
    write_rows(folder / "provenance.jsonl", describe_rows(rows, numbers, ids, parts))
    write_parquet(folder / "dataset.parquet", rows, numbers, ids, parts)
    members: dict[str, list[str]] = {"train": [], "val": [], "heldout": []}
    for example_id, part in zip(ids, parts, strict=True):
        members[part].append(example_id)
    write_json(folder / "split.json", Split(**members, groups=join_ids(ids, groups)).to_json())


def join_ids(ids: Sequence[str], groups: np.ndarray) -> list[list[str]]:
    """Ids of rows of one group, for groups of two and more."""
    order = np.argsort(groups, kind="stable")
    bounds = np.flatnonzero(groups[order][1:] != groups[order][:-1]) + 1
    starts, stops = [0, *bounds.tolist()], [*bounds.tolist(), len(order)]
    return sorted(
        sorted(ids[row] for row in order[start:stop])
        for start, stop in zip(starts, stops, strict=True)
        if stop - start > 1
    )


def name_rows(rows: Sequence[Row], numbers: Sequence[int]) -> Iterator[str]:
    """The ids that `data/examples.py` gives to the rows of dataset.jsonl."""
    repeats: Counter[str] = Counter()
    for number in numbers:
        yield make_unique(content_id(to_dolly(rows[number])), repeats)


def describe_rows(
    rows: Sequence[Row], numbers: Sequence[int], ids: Sequence[str], parts: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for number, example_id, part in zip(numbers, ids, parts, strict=True):
        row = rows[number]
        facts: Row = {"id": example_id, "text": row["id"], "part": part}
        facts |= {name: row[name] for name in PROVENANCE}
        yield facts | ({"rating": row["rating"]} if "rating" in row else {})


def write_parquet(
    path: Path, rows: Sequence[Row], numbers: Sequence[int], ids: Sequence[str], parts: Sequence[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for start in range(0, len(numbers), BATCH_ROWS):
            batch = range(start, min(start + BATCH_ROWS, len(numbers)))
            block = []
            for place in batch:
                row = rows[numbers[place]]
                extra = {"id": ids[place], "part": parts[place], "group": row["group"], "date": row["date"]}
                block.append(to_dolly(row) | extra)
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
            f"| {row['name']} | {describe(row['threshold'])} | {row['kept']} | {row['dropped']} |"
            for row in card["filters"]
        ),
        "",
        "| file | SHA-256 |",
        "| --- | --- |",
        *(f"| {name}{'' if name in PUBLISHED else AT_HOME} | `{digest}` |" for name, digest in card["sha256"].items()),
        "",
        "How it was made: " + json.dumps(card["settings"], ensure_ascii=False),
    ]
    write_text(folder / "README.md", "\n".join(lines) + "\n")


def describe(threshold: float | bool | None) -> str:
    """For people: a filter without a number is on, or can't be switched off."""
    return "always" if threshold is None else "on" if threshold is True else f"{threshold:g}"


def build_card_table(card: dict[str, Any]) -> Table:
    table = Table(title="from texts to pairs")
    table.add_column("stage")
    table.add_column("rows", justify="right")
    for name, count in card["counts"].items():
        table.add_row(name, str(count))
    table.add_section()
    for row in card["filters"]:
        if row["dropped"]:
            table.add_row(f"dropped: {row['name']}", str(row["dropped"]))
    return table
