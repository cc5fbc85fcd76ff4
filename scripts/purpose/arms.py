"""The arms of `scripts/purpose`: which rows each trains on, with which instructions."""

import json
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from revinst.corpus.dropped import filter_records
from revinst.corpus.filters import Thresholds
from revinst.corpus.texts import Record
from revinst.data.example_table import Examples, load_examples
from revinst.data.examples import Example
from revinst.data.split import Split
from revinst.data.words import count_words
from revinst.evaluation.baselines import lead_words
from revinst.inference.predictions import whole_lines
from revinst.runs.files import read_json, write_json, write_text

Pairs = list[tuple[int, str]]  # (number of a row of the pool, the instruction that it is given)

WHOLE = ("true", "greedy", "consensus", "filtered", "no_short", "lead_words", "constant", "shuffled")
ORDERS = ("gain", "rifd", "votes", "random")  # by which a share of the rows is kept
SHARES = (75, 50, 25)  # per cent
BY_LENGTH = tuple(f"{order}_by_length-50" for order in ORDERS if order != "random")
LENGTHS = (0, 5, 15, 40, 100, math.inf)  # words of a response
TIMES = (1, 3, 10)  # written rows for each seed row
CONSTANT = "Write a text."
NO_SHORT = Thresholds(min_words=5, min_ifd=0.05)  # both drop short texts


@dataclass(frozen=True, slots=True)
class Rows:
    """All that arms are made of. written: a record for each row of the pool."""

    seed: Examples
    pool: Examples
    val: Examples
    written: list[Record]
    early: dict[str, list[str]]


def write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_lines(path: Path) -> list[Record]:
    """Of no file none; a line torn by a kill is left out."""
    return [json.loads(line) for line in whole_lines(path, cut=False)] if path.is_file() else []


def read_rows(folder: Path) -> Rows:
    parts = {name: load_examples(str(folder / f"{name}.jsonl"))[0] for name in ("seed", "pool", "val")}
    early = {row["step"]: row["texts"] for row in read_lines(folder / "early.jsonl")}
    return Rows(**parts, written=read_lines(folder / "written.jsonl"), early=early)


def choose_pairs(arm: str, rows: Rows, seed: int, folder: Path) -> Pairs:
    """The rows of the pool that an arm trains on, and their instructions.

    An empty instruction becomes the response's first words: a forward row needs one.
    """
    everything = range(len(rows.pool))
    true = rows.pool.texts("instruction")
    lead = lead_words(rows.pool.texts("response"))
    consensus = [record["instruction"] for record in rows.written]
    name, _, number = arm.partition("-")
    draw = random.Random(f"{seed} {number}")
    if arm == "shuffled":
        order = draw.sample(everything, len(everything))  # each gets the next one's, so none its own
        of_next = dict(zip(order, [*order[1:], order[0]], strict=True))
        texts, numbers = [true[of_next[number]] for number in everything], list(everything)
    elif arm == "judged":
        texts, numbers = consensus, [row["number"] for row in read_lines(folder / "judged.jsonl")]
    elif arm == "filtered":
        texts, numbers = consensus, [n for n in everything if not rows.written[n]["dropped"]]
    elif arm == "no_short":
        dropped = filter_records(rows.written, NO_SHORT, read_json(folder / "filters.json")["prompt_lines"], False)
        texts, numbers = consensus, [n for n in everything if n not in dropped]
    elif name.removesuffix("_by_length") in ORDERS:
        texts, numbers = consensus, keep_best(name, int(number), rows, draw)
    elif name == "step":
        texts, numbers = rows.early[number], list(everything)
    elif name in ("seed", "seed_again", "seed+true"):
        # the same rows with true instructions as with written ones, and the smaller in the larger
        order = random.Random(f"{seed} pool").sample(everything, len(everything))
        texts, numbers = true if name == "seed+true" else consensus, order[: int(number or 0)]
    else:
        greedy = [record["greedy"] for record in rows.written]
        all_texts = {"true": true, "greedy": greedy, "consensus": consensus, "lead_words": lead}
        texts, numbers = all_texts.get(arm, [CONSTANT] * len(true)), list(everything)
    return [(number, texts[number].strip() or lead[number]) for number in numbers]


def keep_best(order: str, share: int, rows: Rows, draw: random.Random | None = None) -> list[int]:
    """The numbers of so many per cent of the rows; those whose score is not known go first. draw: for `random`.

    `gain_by_length` and its like take as many of each of `LENGTHS`: by itself a score takes short texts, or long ones.
    """
    everything = list(range(len(rows.written)))
    if order.endswith("_by_length"):
        order, words = order.removesuffix("_by_length"), list(map(count_words, rows.pool.texts("response")))
        parts = [[n for n in everything if least <= words[n] < below] for least, below in pairwise(LENGTHS)]
    else:
        parts = [everything]
    if draw and order == "random":
        return sorted(draw.sample(everything, round(len(everything) * share / 100)))
    sign = -1 if order == "rifd" else 1  # a low ratio is good
    worth = {n: float("-inf") if rows.written[n][order] is None else sign * rows.written[n][order] for n in everything}
    best = (sorted(part, key=lambda n: -worth[n])[: round(len(part) * share / 100)] for part in parts)
    return sorted(n for part in best for n in part)


def write_arm(arm: str, rows: Rows, seed: int, num_seed: int, source: Path, folder: Path) -> int:
    """The rows of an arm beside those of validation, and their split (`source` with .split.json). Returns how many."""
    train: list[Record] = []
    if arm.startswith("seed"):
        draw = random.Random(f"{seed} seed")
        train += map(to_row, rows.seed.take(sorted(draw.sample(range(len(rows.seed)), min(num_seed, len(rows.seed))))))
    pool = list(rows.pool)
    train += [to_row(pool[number]) | {"instruction": text} for number, text in choose_pairs(arm, rows, seed, folder)]
    val = list(map(to_row, rows.val))
    source.parent.mkdir(parents=True, exist_ok=True)
    write_lines(source, [*train, *val])
    split = Split(*([row["id"] for row in part] for part in (train, val, [])))
    write_json(source.with_suffix(".split.json"), split.to_json())
    return len(train)


def to_row(example: Example) -> Record:
    return {"id": example.id, "instruction": example.instruction, "response": example.response}


def list_arms(num_seed: int, early: Iterable[str], num_pool: int) -> dict[str, list[tuple[str, int]]]:
    """Stage -> its (arm, epochs), in the order in which they are trained. None asks for more rows than the pool has."""
    sizes = [times * num_seed for times in TIMES if times * num_seed <= num_pool]
    grown = [f"{name}-{size}" for size in sizes for name in ("seed", "seed+true")]
    return {
        "main": [("base", 0), *((arm, 3) for arm in WHOLE)],
        # seed_again reads as many rows as TIMES[1]'s arms do, but few of them again and again
        "seed": [*((arm, 3) for arm in ("seed", *grown)), ("seed_again", 3 * (1 + TIMES[1]))],
        "one": [(arm, 1) for arm in (*WHOLE, "seed", *grown)],
        "curves": [(arm, 3) for arm in (*(f"{order}-{share}" for share in SHARES for order in ORDERS), *BY_LENGTH)],
        "steps": [(f"step-{step}", 3) for step in early],
    }
