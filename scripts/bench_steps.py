"""Speed on this machine: text to packed rows, then training steps through the loop that `revinst fit` runs.

usage: bench_steps.py [CONFIG] [--steps N] [overrides of revinst fit, e.g. --data.source FILE]
"""

import csv
import tempfile
import time
from pathlib import Path

from revinst.commands.fit import main as fit
from revinst.config.parser import read_config
from revinst.data.datamodule import build_data
from revinst.options import Parser


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/quickstart.yaml")
    parser.add_argument("--steps", type=int, default=6)
    options, overrides = parser.parse_known_args()
    data = build_data(read_config(["--config", options.config, *overrides]))
    started = time.perf_counter()
    data.setup()
    seconds = time.perf_counter() - started
    examples, tokens = len(data.examples), int(data.train_documents.offsets[-1])
    with tempfile.TemporaryDirectory() as runs:
        speed = measure_steps(options.config, overrides, Path(runs), options.steps)
    print(f"data: {examples} examples, {tokens} training tokens in {seconds:.2f} s")
    print(f"training: {speed:.0f} tokens/s, median of {options.steps - 1} steps after the first")


def measure_steps(config: str, overrides: list[str], runs: Path, steps: int) -> float:
    """Median tokens/s of the steps after the first, from the run's own metrics.csv."""
    quiet = ["--samples.every_steps", "0", "--trainer.log_every_n_steps", "1", "--trainer.limit_val_batches", "0"]
    length = ["--trainer.max_steps", str(steps), "--runs_dir", str(runs), "--run_name", "bench"]
    fit(["--config", config, *overrides, *quiet, *length])
    with (runs / "bench" / "metrics.csv").open(newline="") as file:
        speeds = sorted(float(row["perf/tokens_per_s"]) for row in list(csv.DictReader(file))[1:])
    return speeds[len(speeds) // 2]


if __name__ == "__main__":
    main()
