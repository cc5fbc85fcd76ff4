"""Trains one config with several sets of overrides, scores each on the validation part, and keeps a table.

    python scripts/sweep.py configs/smollm2-dolly.yaml TRIALS.yaml [--gpus all] [--at_once 2] [--data.source FILE ...]

TRIALS.yaml maps a name to its overrides, e.g. `lr-1e-3: {model.lr: 1.0e-3}`; other arguments go to every trial. A trial
becomes the run `SWEEP-NAME` (SWEEP: the file's name). With `--gpus all` each trial has a GPU of the machine for itself.
Running it again skips what is done and goes on with what was stopped. The held-out part is never looked at: score the
run you choose on it with `revinst evaluate`.
"""

import argparse
import json
import os
import queue
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from revinst.evaluation.head import choose_head
from revinst.options import Parser

COLUMNS = ("trial", "val_loss", "rougeL", "low", "high", "rouge1", "rouge2", "strongest_baseline", "seconds")


def run_revinst(log: Path, gpu: str | None, *args: str) -> bytes:
    """What it printed on stdout; the log has both. gpu: the only one that it sees; None: all."""
    with log.open("ab") as file:
        line = [sys.executable, "-m", "revinst.cli", *args]
        environment = os.environ | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=file, env=environment, check=False)
        file.write(done.stdout)
    if done.returncode:
        raise SystemExit(f"revinst {' '.join(args)}: exit code {done.returncode}, see {log}")
    return done.stdout


def run_trial(
    name: str, overrides: dict[str, Any], gpu: str | None, options: argparse.Namespace, common: list[str]
) -> dict[str, Any]:
    """Trains and scores one trial. Returns its line of the table."""
    run = Path("runs") / f"{options.trials.stem}-{name}"
    log = options.table.with_name(f"{run.name}.log")
    given = [part for key, value in overrides.items() for part in (f"--{key}", spell(value))]
    start = time.monotonic()
    run_revinst(log, gpu, "fit", "--config", options.config, "--run_name", run.name, *common, *given)
    scores = json.loads(run_revinst(log, gpu, "evaluate", str(run), "--part", "val", "--json"))
    metrics = scores["metrics"]
    rouge_1, rouge_2, rouge_l, _ = choose_head(metrics, scores["n"])
    return {
        "trial": name,
        "overrides": overrides,
        "val_loss": scores["heldout_loss"],
        "metric": rouge_l,
        "rougeL": metrics[rouge_l]["mean"],
        "rouge1": metrics[rouge_1]["mean"],
        "rouge2": metrics[rouge_2]["mean"],
        "low": metrics[rouge_l]["ci95"][0],
        "high": metrics[rouge_l]["ci95"][1],
        "strongest_baseline": max(baseline[rouge_l] for baseline in scores["baselines"].values()),
        "seconds": time.monotonic() - start,
    }


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


def print_table(rows: list[dict[str, Any]]) -> None:
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    if unicode := [row for row in rows if row.get("metric", "rougeL") != "rougeL"]:
        print(f"ROUGE is {unicode[0]['metric']} and its like in {len(unicode)} of {len(rows)} lines:", file=sys.stderr)
    for row in sorted(rows, key=lambda row: -row["rougeL"]):
        cells = [row[name] if name == "trial" else f"{row[name]:.{0 if name == 'seconds' else 3}f}" for name in COLUMNS]
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("trials", type=Path)
    parser.add_argument("--at_once", type=int, default=1, help="trials that share a device")
    parser.add_argument("--gpus", metavar="all|0,2,...", help="spread the trials over these, each on one")
    parser.add_argument("--table", type=Path, help="default: runs/SWEEP.jsonl")
    options, common = parser.parse_known_args()
    options.table = options.table or Path("runs") / f"{options.trials.stem}.jsonl"
    options.table.parent.mkdir(parents=True, exist_ok=True)
    trials = yaml.safe_load(options.trials.read_text())
    rows = [json.loads(line) for line in options.table.read_text().splitlines()] if options.table.is_file() else []
    missing = {name: overrides or {} for name, overrides in trials.items() if name not in {r["trial"] for r in rows}}
    free: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    places = list_gpus(options.gpus) * options.at_once
    for place in places:
        free.put(place)

    def run_when_free(item: tuple[str, dict[str, Any]]) -> dict[str, Any]:
        gpu = free.get()
        try:
            return run_trial(*item, gpu, options, common)
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(len(places)) as pool:
        for row in pool.map(run_when_free, missing.items()):
            rows.append(row)
            with options.table.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{row['trial']}: ROUGE-L {row['rougeL']:.3f}, {row['seconds']:.0f} s", file=sys.stderr, flush=True)
    print_table(rows)


if __name__ == "__main__":
    main()
