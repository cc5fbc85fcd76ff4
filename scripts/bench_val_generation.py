"""What texts that are written and scored while training cost: the same run with `val_generation` and without.

usage: bench_val_generation.py --base FOLDER|SHAPE --source FILE [--config FILE] [--tokenizer FOLDER] [--like SHAPE]
       [--tiny] [--arms with without] [--pairs N] [--points N] [--rows N] [--steps N] [--lengths references]
       [--out FILE] [overrides of revinst fit]

Each run is a process of its own, and pairs take turns in which arm comes first. Both validate at the same steps, as
often as --points says, so what differs is the writing and scoring. Two figures: the seconds of the passes of the arm
`with`, timed one by one, as a share of its training without them (95 % interval over passes; `--arms with` is enough),
and the paired difference of whole runs (over pairs; a command's time is from its start to its exit). A base with
random weights never ends a text: --lengths references ends each at the length of its row's instruction, about as a
trained model does; without it the cost is an upper bound.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from shapes import base_folder

from revinst.evaluation.statistics import t_quantile
from revinst.options import Parser

QUIET = {"samples.every_steps": 0, "trainer.enable_progress_bar": "false"}


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", required=True, help="a folder, or a shape of shapes.py, made with random weights")
    parser.add_argument("--tokenizer", type=Path, help="folder of the tokenizer of a base that is made")
    parser.add_argument("--like", help="give a base that is made the sizes of another shape")
    parser.add_argument("--tiny", action="store_true", help="make it of two small layers, for a rehearsal")
    parser.add_argument("--source", required=True)
    parser.add_argument("--config", default="configs/smollm2-dolly.yaml")
    parser.add_argument("--arms", nargs="+", choices=("with", "without"), default=["with", "without"])
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--points", type=int, default=5)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--steps", type=int, help="of a run; default: the config's epochs")
    parser.add_argument("--lengths", choices=("free", "references"), default="free")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", choices=("with", "without"))
    options, overrides = parser.parse_known_args()
    if options.worker:
        print("RESULT " + json.dumps(measure(options, overrides)), flush=True)
        return
    results = []
    with base_folder(options.base, options.tokenizer, options.like, options.tiny) as options.base:
        for number in range(options.pairs):
            for arm in options.arms[:: -1 if number % 2 else 1]:
                results.append({"arm": arm, "pair": number} | run_worker(arm, options, overrides))
                print(json.dumps(results[-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    print_shares(results)


def run_worker(arm: str, options: argparse.Namespace, overrides: Sequence[str]) -> dict[str, Any]:
    names = ("base", "source", "config", "points", "rows", "steps", "lengths")
    given = [part for name in names if (value := getattr(options, name)) for part in (f"--{name}", str(value))]
    started = time.perf_counter()
    command = [sys.executable, __file__, *given, "--worker", arm, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    command_s = time.perf_counter() - started
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        sys.exit(f"{arm}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return {"command_s": round(command_s, 1)} | json.loads(lines[-1][7:])


# ---- one run ---------------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace, overrides: Sequence[str]) -> dict[str, Any]:
    """Seconds of the training loop and, of each pass, of its texts and scores, and of the writing alone."""
    import torch
    from lightning.pytorch.loops.fit_loop import _FitLoop

    from revinst.commands.fit import main as fit
    from revinst.training.val_generation import ValGeneration

    keys = QUIET | {"model.base": options.base, "data.source": options.source} | schedule(options, overrides)
    loop_s: list[float] = []
    pass_s: list[float] = []
    write_s: list[float] = []
    reserved: list[int] = []

    def note_memory() -> None:
        reserved.append(torch.cuda.memory_reserved() if torch.cuda.is_available() else 0)

    timers = [
        timed(_FitLoop, "run", loop_s),
        timed(ValGeneration, "on_validation_epoch_end", pass_s, note_memory),
        timed(ValGeneration, "write", write_s),
    ]
    with tempfile.TemporaryDirectory() as runs, timers[0], timers[1], timers[2], ending_texts(options.lengths):
        where = {"runs_dir": runs, "run_name": "bench"} | keys
        given = [part for key, value in where.items() for part in (f"--{key}", str(value))]
        fit(["--config", options.config, *given, *overrides])
    passes = pass_s[-options.points :] if options.worker == "with" else []  # without those of Lightning's sanity check
    assert len(passes) == (options.points if options.worker == "with" else 0), pass_s
    result: dict[str, Any] = {"train_s": round(loop_s[0], 2), "pass_s": [round(each, 2) for each in passes]}
    result["write_s"] = [round(each, 2) for each in write_s]
    if torch.cuda.is_available():
        memory = (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), max(reserved, default=0))
        names = ("allocated_gib", "reserved_gib", "reserved_after_a_pass_gib")
        result |= {name: round(value / 2**30, 2) for name, value in zip(names, memory, strict=True)}
    return result


def schedule(options: argparse.Namespace, overrides: Sequence[str]) -> dict[str, Any]:
    """Keys of `points` validation passes in a run, the last one at its end."""
    from revinst.config.parser import read_config
    from revinst.data.datamodule import build_data

    steps = options.steps
    if steps is None:
        where = ["--model.base", options.base, "--data.source", options.source]
        config = read_config(["--config", options.config, *where, *overrides])
        data = build_data(config)
        data.setup()
        steps = data.steps_per_epoch * config.trainer.max_epochs
    every = steps // options.points
    if not every:
        raise SystemExit(f"{steps} steps are fewer than {options.points} points; give --points or --steps")
    keys: dict[str, Any] = {"trainer.max_steps": every * options.points, "trainer.max_epochs": -1}
    if options.worker == "with":
        return keys | {"val_generation.every_steps": every, "val_generation.rows": options.rows}
    return keys | {"trainer.val_check_interval": every, "trainer.check_val_every_n_epoch": "null"}


@contextmanager
def timed(owner: type, name: str, seconds: list[float], after: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Appends what each call of a method takes, to the end of what the device has to do for it."""
    import torch

    method = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        settle = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
        settle()
        started = time.perf_counter()
        result = method(*arguments, **options)
        settle()
        seconds.append(time.perf_counter() - started)
        after()
        return result

    with mock.patch.object(owner, name, call):
        yield


@contextmanager
def ending_texts(lengths: str) -> Iterator[None]:
    """references: a text ends, at the latest, at the length of its row's instruction with EOS."""
    from revinst.inference.engine.engine import Engine
    from revinst.training import val_generation

    if lengths == "free":
        yield
        return
    limits: dict[tuple[int, ...], int] = {}

    def draw(data: Any, count: int) -> Any:
        rows, most = original(data, count), val_generation.new_tokens(data)
        counts = [len(ids) + 1 for ids in data.tokenizer.encode_continuations([p.target for p in rows.prompts])]
        limits.update({tuple(ids): min(n, most) for ids, n in zip(rows.ids, counts, strict=True)})
        return rows

    class Ending(Engine):
        def generate(self, prompts: Any, _: Any = None, samples: Any = None) -> Any:
            return super().generate(prompts, [limits[tuple(ids)] for ids in prompts], samples)

    original = val_generation.draw_rows
    with mock.patch.object(val_generation, "draw_rows", draw), mock.patch.object(val_generation, "Engine", Ending):
        yield


# ---- what it says ----------------------------------------------------------------------------------------------------


def print_shares(results: list[dict[str, Any]]) -> None:
    arms = {arm: [each for each in results if each["arm"] == arm] for arm in ("with", "without")}
    written = arms["with"]
    if written:
        passes = [seconds for each in written for seconds in each["pass_s"]]
        rest = statistics.fmean(each["train_s"] - sum(each["pass_s"]) for each in written)
        share = len(written[0]["pass_s"]) / rest
        mean, margin = interval(passes)
        print(f"a pass: {mean:.2f} s {margin_text(mean, margin, '.2f')}, n {len(passes)}; writing alone: "
              f"{statistics.fmean(s for each in written for s in each['write_s']):.2f} s")  # fmt: skip
        print(f"passes of a run over the rest of its training ({rest:.1f} s): {mean * share:.2%} "
              f"{margin_text(mean * share, margin * share, '.2%')}")  # fmt: skip
    for name in ("train_s", "command_s") if all(arms.values()) else ():
        pairs = zip(written, arms["without"], strict=True)
        gains = [a[name] / b[name] - 1 for a, b in pairs]
        mean, margin = interval(gains)
        print(f"{name}, with over without: {mean:+.2%} {margin_text(mean, margin, '+.2%')}, pairs {len(gains)}")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """(mean, half of its 95 % interval by Student's t, NaN of one value)."""
    if len(values) < 2:
        return values[0], math.nan
    margin = t_quantile(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), margin


def margin_text(mean: float, margin: float, form: str) -> str:
    return "" if math.isnan(margin) else f"[{mean - margin:{form}}, {mean + margin:{form}}]"


if __name__ == "__main__":
    main()
