"""Training with plain and with fused layers, step by step: how far apart are their losses?

usage: compare_losses.py [--config FILE] [--steps N] [overrides of revinst fit, e.g. --data.source FILE]

Both runs take the same rows, seed and first adapter, without dropout, whose masks plain and fused layers draw
differently. The curves' distance is the mean over steps of |difference| / loss; also printed: the distance of the means
of each tenth of the run, and of val/loss. Exit 1 where the distance, or val/loss's, is above 0.1 %.
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean

from revinst.options import Parser

BOUND = 0.001
QUIET = ["--samples.every_steps", "0", "--checkpoint.every_steps", "null", "--trainer.enable_progress_bar", "false"]
SAME = ["--model.lora.dropout", "0", "--trainer.log_every_n_steps", "1", "--trainer.max_epochs", "-1"]


def main() -> int:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="configs/smollm2-dolly.yaml")
    parser.add_argument("--steps", type=int, default=50)
    options, overrides = parser.parse_known_args()
    steps = options.steps
    overrides += ["--trainer.max_steps", str(steps)]
    with tempfile.TemporaryDirectory() as runs:
        pair = [
            train(options.config, [*overrides, "--model.kernels", kernels], Path(runs), kernels)
            for kernels in ("plain", "fused")
        ]
    losses, val_losses = [run["train/loss"] for run in pair], [run["val/loss"] for run in pair]
    assert len(losses[0]) == len(losses[1]) == steps, [len(each) for each in losses]
    curve = fmean(distance(a, b) for a, b in zip(*losses, strict=True))
    part = max(steps // 10, 1)
    tenths = [tuple(fmean(each[start : start + part]) for each in losses) for start in range(0, steps, part)]
    print("| steps to | plain | fused | distance |\n| --- | --- | --- | --- |")
    for number, (a, b) in enumerate(tenths, start=1):
        print(f"| {min(number * part, steps)} | {a:.4f} | {b:.4f} | {distance(a, b):.3%} |")
    print(f"mean distance of a step's loss: {curve:.4%}; bound {BOUND:.1%}")
    val = distance(val_losses[0][-1], val_losses[1][-1]) if val_losses[0] and val_losses[1] else 0.0
    if val_losses[0]:
        print(f"val/loss at the end: {val_losses[0][-1]:.4f} and {val_losses[1][-1]:.4f}, distance {val:.4%}")
    return 0 if max(curve, val) <= BOUND else 1


def train(config: str, keys: list[str], runs: Path, name: str) -> dict[str, list[float]]:
    """Runs `revinst fit`; losses from its metrics.csv, in the order of steps."""
    where = ["--runs_dir", str(runs), "--run_name", name]
    command = [sys.executable, "-m", "revinst.cli", "fit", "--config", config, *QUIET, *SAME, *where, *keys]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}: exit {done.returncode}\n{done.stderr[-2000:]}")
    with (runs / name / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key]) for row in rows if row.get(key)] for key in ("train/loss", "val/loss")}


def distance(reference: float, other: float) -> float:
    return abs(other - reference) / abs(reference)


if __name__ == "__main__":
    sys.exit(main())
