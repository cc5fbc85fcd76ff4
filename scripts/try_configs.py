"""Configs at the shape of their base with random weights: what `revinst plan` says, and the same run for a few steps.

usage: try_configs.py --tokenizer FOLDER --source FILE [--configs NAME ...] [--steps N] [--tiny] [--out FILE]
       [overrides of revinst fit]

A config has the name of its shape in shapes.py; with a tokenizer that is not the base's own, texts have other lengths.
Each run is a process of its own. Speed is the median of the second half of the steps. What does not fit this GPU is
skipped by name.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shapes import base_folder

from revinst.options import Parser

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
NAMES = ("llama3.1-8b", "mistral-7b", "qwen3-8b", "gemma3-4b")


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer that the bases get")
    parser.add_argument("--source", required=True)
    parser.add_argument("--configs", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tiny", action="store_true", help="two small layers each, for a rehearsal")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", help="a base's folder")
    options, overrides = parser.parse_known_args()
    if options.worker:
        print("RESULT " + json.dumps(measure(options, overrides)), flush=True)
        return
    results = {}
    for name in options.configs:
        with base_folder(name, options.tokenizer, tiny=options.tiny) as folder:
            results[name] = run_worker(name, folder, options, overrides)
            print(name, json.dumps(results[name]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    print("| config | rows at once | tokens/s | planned | peak GiB | planned | loss of the first and last step |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, result in results.items():
        if "error" not in result:
            names = ("rows", "tokens_per_s", "planned_tokens_per_s", "peak_gib", "planned_gib", "losses")
            print(f"| {' | '.join([name, *(str(result[key]) for key in names)])} |")
    sys.exit(any("error" in result for result in results.values()))


def run_worker(name: str, folder: str, options: argparse.Namespace, overrides: Sequence[str]) -> dict[str, Any]:
    given = ["--tokenizer", str(options.tokenizer), "--source", options.source, "--steps", str(options.steps)]
    command = [sys.executable, __file__, *given, "--configs", name, "--worker", folder, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    error = (done.stderr.strip() or "no output").splitlines()[-1][:300]
    return json.loads(lines[-1][7:]) if lines else {"error": error}


def measure(options: argparse.Namespace, overrides: Sequence[str]) -> dict[str, Any]:
    """One config's plan and run, in this process."""
    import torch

    from revinst.commands.fit import main as fit
    from revinst.config.parser import read_config
    from revinst.data.datamodule import build_data
    from revinst.planning.plan import build_plan, read_machine
    from revinst.system import peak_bytes

    (name,) = options.configs
    with tempfile.TemporaryDirectory() as runs:
        keys = {"model.base": options.worker, "data.source": options.source, "trainer.max_steps": options.steps}
        keys |= {"trainer.log_every_n_steps": 1, "runs_dir": runs, "trainer.enable_progress_bar": "false"}
        given = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
        given = ["--config", str(CONFIGS / f"{name}.yaml"), *given, *overrides]
        config = read_config(given)
        data = build_data(config)
        data.setup()
        plan = build_plan(config, data, read_machine(config.trainer, None))
        fit(given)
        run = Path(runs) / config.run_name
        with (run / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("perf/tokens_per_s")]
        manifest = json.loads((run / "manifest.json").read_text())
    speeds, losses = ([float(row[key]) for row in rows] for key in ("perf/tokens_per_s", "train/loss"))
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_bytes()
    return {
        "rows": plan["micro_batch_size"],
        "tokens_per_s": round(statistics.median(speeds[len(speeds) // 2 :])),
        "planned_tokens_per_s": plan["tokens_per_s"],
        "peak_gib": round(peak / 2**30, 2),
        "planned_gib": plan["memory_gib"]["peak"],
        "losses": f"{losses[0]:.3f}, {losses[-1]:.3f}",
        "reasons": {name: manifest["reasons"][name] for name in ("attention", "kernels", "packed rows")},
    }


if __name__ == "__main__":
    main()
