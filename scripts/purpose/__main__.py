"""Do written instructions make better models? Forward models of the same responses with instructions from each source.

    python -m scripts.purpose WORK --data rows.jsonl [--jobs 8 --stop_after 480]
    python -m scripts.purpose WORK --table

A backward run is trained on a part of the rows (or given, `--backward RUN`) and writes instructions for the rest.
Then forward models are trained on these: with true instructions, its greedy ones, the consensus of several samples,
what the filters of `revinst corpus` (and a judge, `--judge URL`) keep of them, with short texts and
without, the response's first words, one instruction for all, true ones of other rows; with few true rows and 1, 3 and
10 times as many written ones; with shares of the rows by each score; with instructions of earlier checkpoints. Each
is judged on rows that nobody trained on, given their true instructions: log p a token of the response, and what it
writes (unicode ROUGE-L, chrF).

Whatever is in WORK is not done again, and WORK is small: it may be carried from machine to machine. Models lie in
`--runs` and are deleted once they are judged. `--table` prints its tables; it needs no GPU.
"""

import argparse
import hashlib
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from revinst.commands.judging import add_judge_options, read_judge
from revinst.config.file import file_of, read_config_file
from revinst.corpus.texts import Record
from revinst.errors import UserError
from revinst.inference.key import changed_settings
from revinst.inference.predictions import append_line, whole_lines
from revinst.options import Parser
from revinst.runs.files import read_json, write_json

from .arms import list_arms, read_lines
from .work import Task, prepare, start_worker, try_task

STAGES = ("main", "seed", "one", "curves", "steps")
CONFIGS = ("backward_config", "forward_config")
# What a file of WORK was made with; until the file is there, a setting may change.
MADE_WITH = {
    "heldout.jsonl": ("data", "backward", "backward_config", "backward_args", "heldout", "val"),
    "written.jsonl": ("samples",),
    "judged.jsonl": ("judge",),
    "results.jsonl": ("forward_config", "forward_args", "seed_rows", "new_tokens"),
}
Done = Record | UserError | None
Work = Callable[[argparse.Namespace, Any], Done]
WorkOn = Callable[[Work, Iterable[Task | None]], Iterator[Done]]


def main(args: list[str] | None = None) -> int:
    options = build_options().parse_args(args)
    try:
        if options.table:
            from .tables import print_tables

            if not (options.work / "written.jsonl").is_file():
                raise UserError(
                    f"{options.work}: no instructions were written there yet; call it with --data FILE first"
                )
            print_tables(options.work)
            return 0
        options.work.mkdir(parents=True, exist_ok=True)
        with FileLock(options.work / "lock", timeout=0, fallback_to_soft=False):
            return run_all(options)
    except Timeout:
        print(f"purpose: {options.work} is in use by another process; wait for it, or end it", file=sys.stderr)
        return 2
    except UserError as error:
        print(f"purpose: {error}", file=sys.stderr)
        return 2


def build_options() -> argparse.ArgumentParser:
    parser = Parser(prog="purpose", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("work", type=Path, metavar="WORK", help="results, and all that they are made of but models")
    add("--table", action="store_true", help="print the tables of what is done")
    add("--data", help="rows with instruction and response")
    add("--backward", metavar="RUN", help="a run that writes instructions; default: one is trained")
    add("--runs", type=Path, help="where models are trained; default: runs/WORK's name-models")
    add("--stages", nargs="+", choices=STAGES, default=STAGES)
    add("--arms", nargs="+", help="only these of the stages")
    add("--seeds", nargs="+", type=int, default=[42, 43, 44, 45, 46])
    add("--seed_rows", type=int, default=300, help="true rows that written ones are added to")
    add("--heldout", type=int, default=400, help="rows")
    add("--val", type=int, default=100, help="rows")
    add("--samples", type=int, default=32, help="of the consensus")
    add("--new_tokens", type=int, default=200, help="of a response, at most")
    add("--backward_config", default="configs/smollm2-dolly.yaml")
    add("--backward_args", default="", help="more options of its fit, in one string")
    add("--forward_config", default="configs/personal.yaml")
    add("--forward_args", default="", help="more options of each forward fit, in one string")
    add("--jobs", type=int, default=1, help="processes that share the GPUs")
    add("--gpus", type=int, default=1, help="the first process takes the first one, and so on")
    add("--stop_after", type=float, default=float("inf"), metavar="SECONDS", help="begin nothing after these")
    add_judge_options(parser)
    return parser


def run_all(options: argparse.Namespace) -> int:
    """Prepares what is missing, then trains and judges arm after arm; each result is kept as it comes, and an arm that
    fails leaves the others.
    """
    options.deadline = time.time() + options.stop_after
    options.judge = read_judge(options)
    options.runs = options.runs or Path("runs") / f"{options.work.name}-models"
    keep_settings(options)
    results = options.work / "results.jsonl"
    with open_workers(options) as work_on:
        for _ in work_on(prepare, [None]):
            pass
        if not (options.work / "written.jsonl").is_file():
            print(f"{options.work}: the time was over before all was written; the same command goes on")
            return 0
        if results.is_file():
            whole_lines(results, cut=True)
        done = {(row["arm"], row["epochs"], row["seed"]) for row in read_lines(results)}
        missing = [task for task in list_tasks(options) if (task.arm, task.epochs, task.seed) not in done]
        ended = failed = 0
        for row in work_on(try_task, missing):
            if isinstance(row, UserError):
                failed += 1
                print(f"purpose: {row}", file=sys.stderr)
            elif row is not None:
                ended += 1
                append_line(results, row)
                print(f"{row['arm']} x {row['epochs']}, seed {row['seed']}: {row['seconds']:.0f} s", file=sys.stderr)
    print(f"{ended} of {len(missing)} that were missing are in {results}")
    return 2 if failed else 0


def keep_settings(options: argparse.Namespace) -> None:
    """What results depend on, beside them. Raises UserError rather than mix two settings in one folder."""
    names = ("seed_rows", "heldout", "val", "samples", "new_tokens", "forward_args", "backward_args")
    settings = {name: getattr(options, name) for name in names}
    settings |= {name: read_config_file(file_of(getattr(options, name))) for name in CONFIGS}
    if options.data:
        settings["data"] = hash_file(Path(options.data))
    if options.backward:
        settings["backward"] = hash_file(Path(options.backward) / "adapter" / "adapter_model.safetensors")
    if options.judge:
        settings["judge"] = [str(getattr(options.judge, name)) for name in ("endpoint", "model", "rubric", "limit")]
    path = options.work / "settings.json"
    known = read_json(path) if path.is_file() else {}
    fixed = [name for file, made in MADE_WITH.items() if (options.work / file).is_file() for name in made]
    both = [name for name in fixed if name in known and name in settings]  # what is not given is as it was
    if changed := changed_settings({name: known[name] for name in both}, {name: settings[name] for name in both}):
        raise UserError(f"{options.work}: made with another {', '.join(changed)}; choose another folder")
    write_json(path, known | settings)


def hash_file(path: Path) -> str:
    """16 hex digits; what is no file, an id of the hub for one, stands for itself."""
    if not path.is_file():
        return str(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@contextmanager
def open_workers(options: argparse.Namespace) -> Iterator[WorkOn]:
    """A function that calls another with the options and each item, `--jobs` at once, and yields what it returns."""
    if options.jobs == 1:
        yield lambda work, items: (work(options, item) for item in items)
        return
    logs = options.runs / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")  # a fork of a process that has used the GPU may hang
    numbers: SimpleQueue[int] = context.SimpleQueue()
    for number in range(options.jobs):
        numbers.put(number % options.gpus)
    arguments = (logs, numbers if options.gpus > 1 else None)
    pool = ProcessPoolExecutor(options.jobs, context, start_worker, arguments)

    def work_on(work: Work, items: Iterable[Task | None]) -> Iterator[Done]:
        futures = [pool.submit(work, options, item) for item in items]
        for future in as_completed(futures):
            yield future.result()

    try:
        yield work_on
    finally:
        pool.shutdown(cancel_futures=True)


def list_tasks(options: argparse.Namespace) -> list[Task]:
    """In the order in which they are begun: stage by stage, a seed with all its arms before the next."""
    num_pool = len(read_lines(options.work / "pool.jsonl"))
    early = [row["step"] for row in read_lines(options.work / "early.jsonl")]
    stages = list_arms(options.seed_rows, early, num_pool)
    if options.judge:
        stages["main"].append(("judged", 3))
    known = {arm for stage in options.stages for arm, _ in stages[stage]}
    if unknown := set(options.arms or []) - known:
        there = ", ".join(sorted(known))
        raise UserError(f"--arms: {', '.join(sorted(unknown))}: none of these stages has it; there are {there}")
    return [
        Task(arm, epochs, seed)
        for stage in options.stages
        for seed in options.seeds
        for arm, epochs in stages[stage]
        if not options.arms or arm in options.arms
        if arm != "base" or seed == options.seeds[0]  # it has none
    ]


if __name__ == "__main__":
    sys.exit(main())
