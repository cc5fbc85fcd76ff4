"""Trains one config with several sets of overrides and seeds, scores each on the validation part, and prints a table.

    python scripts/sweep.py configs/smollm2-dolly.yaml TRIALS.yaml --seeds 42 43 44 45 46 \\
      --data.split runs/NAME/split.json [--gpus all --at_once 4] [--data.source FILE ...]

TRIALS.yaml maps a name to its overrides, e.g. `lr-1e-3: {model.lr: 1.0e-3}`; other arguments go to every trial. A trial
becomes the run `SWEEP-NAME-SEED` (SWEEP: the name of `--table`, which is that of the file unless given). The table sets
each trial against the first, row by row and seed by seed; with several seeds all need one split, since a seed draws its
own.

With `--gpus all` trials are spread over the machine's GPUs, `--at_once` on each. Running it again skips what is done
and goes on with what was stopped; `--stop_after 0` only prints the table. All that it needs for that is in `--table`,
some 20 KB a run; the runs themselves may be gone, and their checkpoints are deleted once they are scored. The held-out
part is never looked at: score the run you choose on it with `revinst evaluate`.
"""

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from revinst.config.file import file_of, read_config_file
from revinst.errors import UserError
from revinst.evaluation.choice import read_scored_predictions
from revinst.evaluation.comparison import Pair, Result, System, compare_systems
from revinst.evaluation.head import choose_head
from revinst.inference.key import changed_settings
from revinst.inference.predictions import append_line, whole_lines
from revinst.options import Parser
from revinst.runs.files import read_json, write_json

Line = dict[str, Any]  # of the table's file
PART = "val"


@dataclass(frozen=True, slots=True)
class Trial:
    """seed: None: the config's."""

    name: str
    seed: int | None
    overrides: dict[str, Any]

    @property
    def key(self) -> tuple[str, int | None]:
        return self.name, self.seed

    @property
    def label(self) -> str:
        return self.name if self.seed is None else f"{self.name}-{self.seed}"


def main() -> int:
    options, common = build_options().parse_known_args()
    if len(options.seeds or []) > 1 and not any(arg.split("=")[0] == "--data.split" for arg in common):
        raise SystemExit("--seeds: a seed draws a split of its own; give all one, --data.split runs/NAME/split.json")
    options.table = options.table or Path("runs") / f"{options.trials.stem}.jsonl"
    try:
        made_with = {"config": read_config_file(file_of(options.config)), "options": common}
        trials = list_trials(options)
        missing = list_missing(trials, options.table, made_with)
        options.table.parent.mkdir(parents=True, exist_ok=True)
        if options.table.is_file():
            whole_lines(options.table, cut=True)
        failed = run_trials(missing, options, made_with)
        names = list(dict.fromkeys(trial.name for trial in trials))
        lines = [line for line in read_lines(options.table) if line["trial"] in names]
        print_table(sorted(lines, key=lambda line: names.index(line["trial"])), names[0])
        if left := len(list_missing(trials, options.table, made_with)):
            print(f"\n{left} of {len(trials)} are not done; the same command goes on", file=sys.stderr)
    except UserError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nsweep: stopped; the same command goes on", file=sys.stderr)
        return 130
    return 1 if failed else 0


def build_options() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("trials", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, help="of each trial; default: the config's")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the trials; the first comes along")
    parser.add_argument("--at_once", type=int, default=1, help="trials that share a device")
    parser.add_argument("--gpus", metavar="all|0,2,...", help="spread the trials over these, each on one")
    parser.add_argument("--stop_after", type=float, default=float("inf"), metavar="SECONDS", help="begin none after it")
    parser.add_argument("--table", type=Path, help="default: runs/SWEEP.jsonl")
    return parser


def list_trials(options: argparse.Namespace) -> list[Trial]:
    """All trials of a seed before the next, so that a sweep that was stopped has pairs."""
    given = read_config_file(str(options.trials))
    if wrong := [name for name, overrides in given.items() if not isinstance(overrides, dict | None)]:
        raise UserError(f"{options.trials}: {wrong[0]}: a trial is a mapping of keys to values, or {{}}")
    first = next(iter(given), None)
    if first is None:
        raise UserError(f"{options.trials}: there is no trial in it")
    if unknown := set(options.only or []) - given.keys():
        raise SystemExit(f"--only: {options.trials} has no {', '.join(sorted(unknown))}; there are {', '.join(given)}")
    names = [name for name in given if not options.only or name == first or name in options.only]
    return [Trial(name, seed, given[name] or {}) for seed in options.seeds or [None] for name in names]


def list_missing(trials: Sequence[Trial], table: Path, made_with: Line) -> list[Trial]:
    """Raises UserError for one that was done with other overrides, or a table of another config or other options."""
    lines = read_lines(table)
    for line in lines:
        if changed := changed_settings(made_with | line.get("made_with", {}), made_with):
            raise UserError(
                f"{table}: {line['run']} was trained with another {' and other '.join(changed)}; give another --table"
            )
    done = {(line["trial"], line["seed"]): line["overrides"] for line in lines}
    if changed := [trial.label for trial in trials if done.get(trial.key, trial.overrides) != trial.overrides]:
        raise UserError(
            f"{table}: {changed[0]} was trained with other overrides; give it another name, or another --table"
        )
    return [trial for trial in trials if trial.key not in done]


# ---- running -------------------------------------------------------------------------------------------------------


def run_trials(missing: Sequence[Trial], options: argparse.Namespace, made_with: Line) -> int:
    """Each line is kept as it comes. Returns how many failed; the others go on."""
    places = list_gpus(options.gpus) * options.at_once
    free: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for place in places:
        free.put(place)
    deadline, failed = time.monotonic() + options.stop_after, 0

    def run_when_free(trial: Trial) -> Line | None:
        gpu = free.get()
        try:
            return run_trial(trial, gpu, options, made_with) if time.monotonic() < deadline else None
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(len(places)) as pool:
        futures = [pool.submit(run_when_free, trial) for trial in missing]
        try:
            for future in as_completed(futures):
                try:
                    line = future.result()
                except UserError as error:
                    failed += 1
                    print(error, file=sys.stderr, flush=True)
                    continue
                if line:
                    append_line(options.table, line)
                    print(f"{line['run']}: val/loss {line['val_loss']:.3f}, {line['seconds']:.0f} s", file=sys.stderr)
        except KeyboardInterrupt:  # which the commands that run were sent as well
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def run_trial(trial: Trial, gpu: str | None, options: argparse.Namespace, made_with: Line) -> Line:
    """Trains and scores one. Raises UserError where a command fails."""
    run = Path("runs") / f"{options.table.stem}-{trial.label}"
    log = options.table.with_name(f"{run.name}.log")
    check_run(run, log.with_suffix(".json"), {"overrides": trial.overrides, "made_with": made_with})
    values = trial.overrides | ({} if trial.seed is None else {"seed_everything": trial.seed})
    given = [part for key, value in values.items() for part in (f"--{key}", spell(value))]
    start = time.monotonic()
    run_revinst(log, gpu, "fit", "--config", options.config, "--run_name", run.name, *made_with["options"], *given)
    scores = json.loads(run_revinst(log, gpu, "evaluate", str(run), "--part", PART, "--name", PART, "--json"))
    line = {"trial": trial.name, "seed": trial.seed, "run": run.name, "overrides": trial.overrides}
    line["made_with"] = made_with
    metric, loss = choose_head(scores["metrics"], scores["n"])[2], scores["heldout_loss"]
    rows = list_rows(read_scored_predictions(run / "evaluation" / PART / "predictions.jsonl"), metric, loss)
    # a sweep's would fill a disk: 0.2 GB each for SmolLM2, several a run
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    return line | {"val_loss": loss, "metric": metric, "seconds": time.monotonic() - start, "rows": rows}


def check_run(run: Path, note: Path, settings: Line) -> None:
    """`fit` goes on with a folder of that name, so it must have been begun with the same settings, which `note` keeps.
    Raises UserError for another.
    """
    if run.is_dir() and (not note.is_file() or read_json(note) != settings):
        raise UserError(f"{run}: not known as a run of this trial's settings; delete it, or give another --table")
    write_json(note, settings)


def list_rows(predictions: Mapping[str, Mapping[str, Any]], metric: str, loss: float) -> Line:
    """id -> [group, the row's share of val/loss, its ROUGE-L]. The shares' mean is the loss a token."""
    log_p = np.array([row["logp_reference"] for row in predictions.values()], dtype=np.float64)  # None becomes NaN
    shares = log_p * (loss / np.nanmean(log_p))
    numbers: dict[str, int] = {}
    return {
        key: [
            numbers.setdefault(row.get("group", key), len(numbers)),
            None if np.isnan(share) else round(float(share), 6),
            None if row[metric] is None else round(row[metric], 6),
        ]
        for (key, row), share in zip(predictions.items(), shares, strict=True)
    }


def run_revinst(log: Path, gpu: str | None, *args: str) -> bytes:
    """What it printed on stdout; the log has both. gpu: the only one that it sees; None: all."""
    with log.open("ab") as file:
        line = [sys.executable, "-m", "revinst.cli", *args]
        environment = os.environ | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=file, env=environment, check=False)
        file.write(done.stdout)
    if done.returncode:
        raise UserError(f"revinst {' '.join(args)}: exit code {done.returncode}, see {log}")
    return done.stdout


def spell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def list_gpus(asked: str | None) -> list[str | None]:
    """all: those that this process sees; or their numbers, `0,2`. Without --gpus trials share what there is."""
    if asked is None:
        return [None]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") if asked == "all" else asked
    if visible is None:
        import torch

        visible = ",".join(map(str, range(torch.cuda.device_count())))
    if not visible:
        raise SystemExit("--gpus: this machine has none; leave it out, and give --at_once N for N trials at a time")
    return list(visible.split(","))


# ---- the table -----------------------------------------------------------------------------------------------------


def read_lines(path: Path) -> list[Line]:
    """Of no file none; a line torn by a kill is left out."""
    return [json.loads(line) for line in whole_lines(path, cut=False)] if path.is_file() else []


def print_table(lines: Sequence[Line], first: str) -> None:
    """Each trial's means, and the first trial subtracted, over the seeds that all have. lines: the first trial's come
    first.
    """
    if lines and lines[0]["trial"] != first:
        print(f"{first}, which the others are set against, has not been trained yet")
        return
    names = list(dict.fromkeys(line["trial"] for line in lines))
    of_each = [{line["seed"] for line in lines if line["trial"] == name} for name in names]
    shared = set.intersection(*of_each) if of_each else set()
    kept = [line for line in lines if line["seed"] in shared]
    if not kept:
        print("no seed has been trained with all trials yet")
        return
    results = [compare(kept, "loss"), compare(kept, "rouge")]
    rouge = " and ".join(sorted({line["metric"] for line in kept}))
    seeds = ", ".join(map(str, sorted(shared, key=str)))
    print(f"{results[0]['n']} validation rows in {results[0]['num_groups']} groups, seeds {seeds}\n")
    print(f"| trial | val/loss | less the first | {rouge} | less the first | s a run |\n|" + " --- |" * 6)
    for number, name in enumerate(names):
        cells = [cell for result in results for cell in (describe_mean(result, number), describe_pair(result, number))]
        seconds = np.mean([line["seconds"] for line in kept if line["trial"] == name])
        print(f"| {name} | {' | '.join(cells)} | {seconds:.0f} |")
    if len(names) > 1:
        print(
            "\nDifferences are means over rows and seeds; 95 % intervals by bootstrap over groups of rows,\np "
            f"of a sign-flip test, by Holm over {len(names) - 1} trials; then a seed's least and largest difference."
        )


def compare(lines: Sequence[Line], metric: str) -> Result:
    """metric: loss or rouge. Raises UserError where trials were not scored on the same rows."""
    systems: dict[str, System] = {}
    for line in sorted(lines, key=lambda line: str(line["seed"])):
        rows = {
            key: {"group": group, "reference": "", "loss": loss, "rouge": rouge}
            for key, (group, loss, rouge) in line["rows"].items()
        }
        systems.setdefault(line["trial"], System(line["trial"], [])).seeds.append(rows)
    order = dict.fromkeys(line["trial"] for line in lines)
    return compare_systems([systems[name] for name in order], metric)


def describe_mean(result: Result, number: int) -> str:
    system = result["systems"][number]
    return f"{system['mean']:.4f}" + ("" if system["sd"] is None else f" (sd {system['sd']:.4f})")


def describe_pair(result: Result, number: int) -> str:
    """`+0.012 [+0.004, +0.020], p 0.003; +0.008 to +0.015`"""
    if number == 0:
        return ""
    pair: Pair = result["pairs"][number - 1]
    low, high = (float("nan") if bound is None else bound for bound in pair["ci95"])
    p = "p < 0.001" if pair["p_holm"] < 0.001 else f"p {pair['p_holm']:.3f}"
    first, own = result["systems"][0]["seeds"], result["systems"][number]["seeds"]
    of_seeds = [b - a for a, b in zip(first, own, strict=True)]
    spread = f"; {min(of_seeds):+.4f} to {max(of_seeds):+.4f}" if len(of_seeds) > 1 else ""
    return f"{pair['difference']:+.4f} [{low:+.4f}, {high:+.4f}], {p}{spread}"


if __name__ == "__main__":
    sys.exit(main())
