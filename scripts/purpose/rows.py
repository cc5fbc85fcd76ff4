"""What `scripts/purpose` needs a backward run for: who sees which rows, and what is written for them.

A folder holds one JSON object a line in each of
  seed.jsonl     rows that the backward run was trained on: the true pairs that somebody has
  pool.jsonl     rows that it has not seen; instructions are written for these
  val.jsonl      validation rows of the forward runs
  heldout.jsonl  rows that nobody trains on
  written.jsonl  what was written for each row of the pool, with the scores that filters go by; what they dropped
  early.jsonl    greedy instructions of the backward run's earlier checkpoints
  scored.jsonl   what will be written.jsonl, as far as it goes
"""

import time
from collections.abc import Sequence
from pathlib import Path

from revinst.corpus.candidates import Writer
from revinst.corpus.dropped import filter_records, judge_kept
from revinst.corpus.filters import Thresholds
from revinst.corpus.texts import Record
from revinst.data.example_table import Examples, build_examples, load_examples
from revinst.data.prompt import prompt_lines
from revinst.data.split import Split, group_duplicates, read_split, select_examples, split_examples
from revinst.data.words import normalise
from revinst.errors import UserError
from revinst.evaluation.judge_settings import JudgeSettings
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.picks import TEMPERATURE, PickSettings
from revinst.inference.predictions import append_line, whole_lines
from revinst.inference.trained import Trained, open_trained
from revinst.runs.checkpoints import checkpoint_files, step_of
from revinst.runs.files import read_json, write_json

from .arms import read_lines, write_lines

EARLY = (1 / 8, 1 / 4, 1 / 2)  # of the backward run's steps
SLICE = 2000  # texts, each with its samples


def choose_rows(folder: Path, data: str, backward: str, heldout: int, val: int, seed: int) -> None:
    """Writes the four parts. Rows that the backward run saw are told by id, by the words of the response, or as their
    near-duplicates.
    """
    trained, split = open_backward(backward)
    assert trained.config is not None
    examples, _ = load_examples(data, on_bad_row=trained.config.data.on_bad_row)
    known = trained.load_examples()
    fresh = drop_seen(examples, select_examples(known, [*split.train, *split.val]))
    if len(fresh) < heldout + val + 10:
        raise UserError(f"{data}: only {len(fresh)} rows that {backward} has not seen; give more, or lower --heldout")
    parts = split_examples(fresh, heldout / len(fresh), val / len(fresh), seed)
    write_examples(folder / "seed.jsonl", select_examples(known, split.train))
    group_of = {example_id: min(group) for group in parts.groups for example_id in group}
    for name, chosen in (("val", parts.val), ("pool", parts.train), ("heldout", parts.heldout)):
        part = select_examples(fresh, chosen)
        groups = [group_of.get(example_id, example_id) for example_id in part.texts("id")]
        write_examples(folder / f"{name}.jsonl", part, groups)


def open_backward(backward: str) -> tuple[Trained, Split]:
    trained = open_trained(backward)
    if trained.run is None or trained.config is None:
        raise UserError(f"--backward {backward}: give a run folder, whose training rows are known")
    return trained, read_split(trained.run.split)


def check_rows(folder: Path, backward: str) -> None:
    """Raises UserError where the parts that a call which was stopped has chosen were chosen for another run."""
    _, split = open_backward(backward)
    if {row["id"] for row in read_lines(folder / "seed.jsonl")} != set(split.train):
        raise UserError(f"{folder}: its rows were chosen for a run of other training rows than {backward}; give that")


def drop_seen(examples: Examples, seen: Examples) -> Examples:
    ids, responses = set(seen.texts("id")), set(map(normalise, seen.texts("response")))
    fresh = [
        row
        for row, example in enumerate(examples)
        if example.id not in ids and normalise(example.response) not in responses
    ]
    groups = group_duplicates(build_examples([*seen, *examples.take(fresh)]))
    alike = {number - len(seen) for group in groups if min(group) < len(seen) for number in group}
    return examples.take([row for number, row in enumerate(fresh) if number not in alike])


def write_examples(path: Path, examples: Examples, groups: Sequence[str] = ()) -> None:
    fields = ("id", "instruction", "response", "category")
    write_lines(
        path,
        (
            {name: getattr(example, name) for name in fields} | ({"group": groups[number]} if groups else {})
            for number, example in enumerate(examples)
        ),
    )


def write_instructions(folder: Path, backward: str, exports: Path, samples: int, deadline: float) -> None:
    """written.jsonl and early.jsonl, as `revinst corpus` writes and filters with its defaults.

    What was written is kept a slice of the pool at a time; after the deadline (seconds since the epoch) no slice is
    begun, and there is no written.jsonl yet.
    """
    pool, trained = load_examples(str(folder / "pool.jsonl"))[0], open_trained(backward)
    settings, scored = GenerationSettings(temperature=TEMPERATURE), folder / "scored.jsonl"
    for path in (folder / "early.jsonl", scored):
        if path.is_file():
            whole_lines(path, cut=True)
    known = {row["step"] for row in read_lines(folder / "early.jsonl")}
    for step in early_steps(trained):
        if str(step) not in known and time.time() < deadline:
            before = open_trained(backward, step=step, exports=exports)
            found = Writer(before, before.load(settings), GenerationSettings()).write(pool.texts("response"), False)
            append_line(folder / "early.jsonl", {"step": str(step), "texts": [each.texts[0] for each in found]})
    writer = Writer(trained, trained.load(settings), settings, PickSettings(samples, "consensus"))
    records = read_lines(scored)
    while len(records) < len(pool) and time.time() < deadline:
        part = pool.take(range(len(records), min(len(records) + SLICE, len(pool))))
        for record in write_slice(writer, part):
            append_line(scored, record)
        records = read_lines(scored)
    if len(records) < len(pool):
        return
    lines = prompt_lines(trained.template)
    dropped = filter_records(records, Thresholds(), lines, rated=False)
    write_json(folder / "filters.json", {"filters": dropped.to_json(), "prompt_lines": list(lines)})
    write_lines(
        folder / "written.jsonl",
        (record | {"dropped": dropped.get(number, ("", ""))[0]} for number, record in enumerate(records)),
    )
    scored.unlink()


def write_slice(writer: Writer, examples: Examples) -> list[Record]:
    """A record of each: what is written greedily, what is taken of the samples, and its scores."""
    texts = examples.texts("response")
    written = writer.write(texts, with_greedy=True)
    picked = writer.pick(texts, written)
    taken = [each.taken.text for each in picked]
    scores = writer.score(texts, taken, writer.gains(texts, taken))
    return [
        {
            "id": example.id,
            "text": example.response,
            "votes": max(each.votes),
            # greedy texts are written at this temperature too: the engine takes 0 for them
            "greedy": own.greedy.text if own.greedy else "",
            "instruction": each.taken.text,
        }
        | score
        for example, own, each, score in zip(examples, written, picked, scores, strict=True)
    ]


def early_steps(trained: Trained) -> list[int]:
    """The saved steps nearest to EARLY's shares of the last one."""
    assert trained.run is not None
    steps = [step_of(path) for path in checkpoint_files(trained.run.checkpoints)]
    last = max(steps)
    found = {min(steps, key=lambda step: abs(step - share * last)) for share in EARLY} - {last}
    return sorted(found)


def judge_rows(folder: Path, judge: JudgeSettings) -> None:
    """judged.jsonl: the numbers of the pool's rows that the filters and then a judge keep."""
    records, limits = read_lines(folder / "written.jsonl"), Thresholds()
    dropped = filter_records(records, limits, read_json(folder / "filters.json")["prompt_lines"], rated=False)
    judge_kept(dropped, judge, folder, limits.judge)
    kept = [number for number in range(len(records)) if number not in dropped]
    write_lines(folder / "judged.jsonl", ({"number": number} for number in kept))
