"""`revinst inspect`: what a config makes of its data; loads no model."""

import json
import re
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from revinst.commands.config import open_config
from revinst.commands.trained import quiet_libraries
from revinst.data.audit import audit_random_split, audit_split, count_moved
from revinst.data.datamodule import InstructionDataModule
from revinst.data.encoding import IGNORE_INDEX
from revinst.data.examples import count_categories, list_sources
from revinst.data.prompt import render_prompt
from revinst.errors import UserError
from revinst.progress import SIGNS

USAGE = "usage: revinst inspect CONFIG [--data.KEY VALUE ...] [--json]"
NUMBER = re.compile(r"(?<![\w-])\d[\d,]*")  # "1,024" and "12", but not the 8 of UTF-8
COLOURS = ("cyan", "magenta", "green", "yellow", "blue")


def main(args: list[str]) -> int:
    as_json = "--json" in args
    args = [arg for arg in args if arg != "--json"]
    if args and args[0] in ("-h", "--help"):
        print(f"{USAGE}\n\nShows what a config makes of its data; takes the same overrides as revinst fit.")
        return 0
    if not args or args[0].startswith("-"):
        raise UserError(USAGE)
    quiet_libraries()
    cli = open_config(args, ["--json"])
    data = InstructionDataModule(**cli.data_arguments())
    data.setup()
    summary = summarise_data(data)
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        show(data, summary)
    return 0


def summarise_data(data: InstructionDataModule) -> dict[str, Any]:
    """Counts of the split, its audit, and the packed training rows; train + val + heldout + dropped = examples."""
    documents, split = data.train_documents, data.split
    dropped = [*data.discarded, *documents.discarded, *data.val_documents.discarded]
    audit, at_random = audit_split(data.examples, split), audit_random_split(data.examples, split, data.seed)
    return {
        "examples": len(data.examples) + len(data.discarded),
        "groups": len(data.examples) - sum(len(group) - 1 for group in split.groups),
        "train": len(split.train) - len(documents.discarded),
        "val": len(split.val) - len(data.val_documents.discarded),
        "heldout": len(split.heldout),
        "dropped": len(dropped),
        "dropped_by_reason": dict(Counter(NUMBER.sub("N", row.reason) for row in dropped)),
        "moved_by_grouping": count_moved(data.examples, split, data.seed),
        "audited": len(audit.ids),
        "max_similarity": audit.max_similarity,
        "leaked": audit.leaked,
        "leaked_in_random_split": at_random.leaked,
        "rows": len(data.train_rows),
        "documents_per_row": round(sum(map(len, data.train_rows)) / len(data.train_rows), 2),
        "fill_pct": round(100 * data.epoch_tokens / (len(data.train_rows) * data.seq_len), 2),
        "steps_per_epoch": data.steps_per_epoch,
        "tokens_per_step": round(data.epoch_tokens / data.steps_per_epoch),
        "targets": documents.num_targets,
        "truncated": documents.truncated,
    }


def show(data: InstructionDataModule, summary: dict[str, Any]) -> None:
    console = Console()
    sources = (f"{name}{f' (weight {weight:g})' if weight != 1 else ''}" for name, weight in list_sources(data.source))
    table = Table(title=Text(", ".join(sources)), show_header=False)
    for key, value in summary.items():
        if key != "dropped_by_reason":
            table.add_row(key, f"{value:,}" if isinstance(value, int) else f"{value:.4g}")
    console.print(table)
    for choice, reason in data.reasons.items():
        console.print(f"{choice}: {reason}", markup=False)
    for reason, count in summary["dropped_by_reason"].items():
        console.print(f"  dropped: {count:,}: {reason}", markup=False)
    for category, count in count_categories(data.examples).items():
        console.print(f"  {category.translate(SIGNS) or '(no category)'}: {count:,}", markup=False)
    lengths = np.percentile(data.train_documents.lengths, [5, 50, 95, 100]).round().astype(int)
    console.print("tokens of a document, 5th, 50th, 95th, 100th percentile:", ", ".join(map(str, lengths)))
    number = int(np.random.default_rng(data.seed).integers(len(data.split.train)))
    prompt = render_prompt(data.template, data.examples_of("train")[number], data.context == "include")
    console.rule("a formatted sample")
    console.print(Text(prompt.text.translate(SIGNS)), Text(prompt.target.translate(SIGNS), style="reverse"), sep="")
    for row in range(min(3, len(data.train_rows))):
        console.rule(f"row {row}: what is supervised is reversed; each document has its colour")
        console.print(render_row(data, row))


def render_row(data: InstructionDataModule, row: int) -> Text:
    """The text of a packed row as the model reads it."""
    text = Text()
    documents = data.train_documents
    for position, number in enumerate(data.train_rows[row]):
        span = slice(documents.offsets[number], documents.offsets[number + 1])
        inputs, targets = documents.input_ids[span], documents.targets[span]
        colour = COLOURS[position % len(COLOURS)]
        supervised = np.concatenate([[False], targets[:-1] != IGNORE_INDEX])  # input i is the target of i - 1
        for start, end in runs(supervised):
            part = data.tokenizer.hf.decode(inputs[start:end].tolist()).translate(SIGNS)
            text.append(part, style=f"{colour} reverse" if supervised[start] else colour)
        if targets[-1] != IGNORE_INDEX:
            text.append(data.tokenizer.hf.decode([int(targets[-1])]), style=f"{colour} reverse")
        text.append("\n")
    return text


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of equal values: `[F, F, T, F]` -> `[(0, 2), (2, 3), (3, 4)]`."""
    changes = [0, *(np.flatnonzero(flags[1:] != flags[:-1]) + 1).tolist(), len(flags)]
    return list(pairwise(changes))
