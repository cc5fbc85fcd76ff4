"""How a config trains on cards with less memory than the one that is here.

    python scripts/bench_small_gpus.py --base FOLDER --source FILE [--cards 8 12 16 24] [--keys --model.KEY VALUE ...]

Each run is a process whose share of the GPU is capped (`torch.cuda.set_per_process_memory_fraction`) to what a card of
so many GB leaves to it: USABLE_GIB_A_GB of `revinst plan`. The recipe stays; `data.micro_batch_size: auto` decides
how many rows go through the network at once. Speed is this card's, not that of the card that is stood in for.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from revinst.options import Parser
from revinst.planning.plan import USABLE_GIB_A_GB

ROW = "| {} | {} | {} | {} | {} | {} | {} |"


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--config", default="configs/llama2-7b.yaml")
    parser.add_argument("--cards", type=float, nargs="+", default=[8, 12, 16, 24], help="GB")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--allocator", default="", help="PYTORCH_CUDA_ALLOC_CONF of the runs")
    parser.add_argument("--timeout_s", type=int, default=240)
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--keys", nargs=argparse.REMAINDER, default=[], help="overrides of the config; last")
    options = parser.parse_args()
    if options.worker:
        print("RESULT " + json.dumps(train(options, options.worker)), flush=True)
        return
    print(ROW.format("card, GB", "available, GiB", "rows a forward", "tokens/s", "allocated", "reserved", "ran out"))
    print(ROW.format(*["---"] * 7), flush=True)
    for card in options.cards:
        print(describe(card, run_worker(card, options)), flush=True)


def run_worker(card: float, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:]]
    place = command.index("--keys") if "--keys" in command else len(command)
    command[place:place] = ["--worker", str(card)]
    environment = os.environ | ({"PYTORCH_CUDA_ALLOC_CONF": options.allocator} if options.allocator else {})
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=options.timeout_s, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"over {options.timeout_s} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    found = json.loads(lines[-1][7:]) if lines else {"error": (done.stderr.strip() or "no output").splitlines()[-1]}
    return found | {"ran_out": [line for line in done.stdout.splitlines() if "memory ran out" in line]}


def train(options: argparse.Namespace, card: float) -> dict[str, Any]:
    """In this process: some steps of the config under the cap."""
    import torch

    from revinst.commands.fit import main as fit

    available = card * USABLE_GIB_A_GB
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(available * 2**30 / torch.cuda.get_device_properties(0).total_memory)
    with tempfile.TemporaryDirectory() as runs:
        keys = {
            "runs_dir": runs,
            "run_name": "bench",
            "model.base": options.base,
            "data.source": options.source,
            "samples.every_steps": 0,
            "checkpoint.every_steps": "null",
            "trainer.limit_val_batches": 0,
            "trainer.max_steps": options.steps,
            "trainer.log_every_n_steps": 1,
            "trainer.enable_progress_bar": "false",
            "trainer.logger": "false",
        }
        line = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
        fit(["--config", options.config, *line, *options.keys])
        with (Path(runs) / "bench" / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        reasons = json.loads((Path(runs) / "bench" / "manifest.json").read_text())["reasons"]
    speeds = [float(row["perf/tokens_per_s"]) for row in rows[2:]]
    result = {"available": available, "reason": reasons["micro_batch"], "tokens_per_s": statistics.median(speeds)}
    if torch.cuda.is_available():
        memory = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
        result |= {name: round(value / 2**30, 2) for name, value in memory.items()}
    return result


def describe(card: float, result: dict[str, Any]) -> str:
    if "error" in result:
        return f"| {card:g} | {result['error'][:300]} |"
    numbers = (f"{result['tokens_per_s']:,.0f}", result.get("allocated", ""), result.get("reserved", ""))
    rows = result["reason"].split(" rows a forward")[0]
    return ROW.format(f"{card:g}", f"{result['available']:.1f}", rows, *numbers, len(result["ran_out"]))


if __name__ == "__main__":
    main()
