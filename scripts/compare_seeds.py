"""Trials of scripts/sweep.py that differ in one key, paired by all else (their seeds): does the key matter?

usage: compare_seeds.py runs/SWEEP.jsonl --key model.base_gemm --reference bf16 [--bounds 0.005 0.01]

For each other value of the key: mean paired differences to the reference of the run's best val/loss (metrics.csv) and
of ROUGE-L, with 95 % t intervals over the pairs. Exit 1 where an interval reaches out of its bound.
"""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from revinst.errors import UserError
from revinst.evaluation.statistics import t_quantile
from revinst.options import Parser

Numbers = tuple[float, float]  # best val/loss, ROUGE-L


def main() -> int:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--key", default="model.base_gemm")
    parser.add_argument("--reference", default="bf16", help="value of the key that the others are compared with")
    parser.add_argument("--bounds", type=float, nargs=2, default=(0.005, 0.01), help="of best val/loss, of ROUGE-L")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.table.read_text(encoding="utf-8").splitlines()]
    trials = read_trials(rows, options.key, options.table.with_suffix(""))
    if options.reference not in trials:
        raise UserError(f"{options.table}: no trial has {options.key} {options.reference}")
    reference, is_inside = trials.pop(options.reference), True
    print(f"| {options.key} | pairs | best val/loss | difference | ROUGE-L | difference |\n|" + " --- |" * 6)
    cells = [f"{fmean(values):.4f} | " for values in zip(*reference.values(), strict=True)]
    print(f"| {options.reference} | {len(reference)} | {' | '.join(cells)} |")
    for value, found in trials.items():
        pairs = sorted(found.keys() & reference.keys())
        cells = []
        for place, bound in enumerate(options.bounds):
            low, high = interval([found[pair][place] - reference[pair][place] for pair in pairs])
            is_inside &= -bound < low and high < bound
            mean = fmean(found[pair][place] for pair in pairs)
            cells += [f"{mean:.4f}", f"{(low + high) / 2:+.4f} [{low:+.4f}, {high:+.4f}]"]
        print(f"| {value} | {len(pairs)} | {' | '.join(cells)} |")
    print(f"bounds: {options.bounds[0]} and {options.bounds[1]}: {'inside' if is_inside else 'NOT inside'}")
    return 0 if is_inside else 1


def read_trials(rows: list[dict[str, Any]], key: str, run: Path) -> dict[str, dict[str, Numbers]]:
    """Value of the key -> what else was set -> its numbers. run: path of a trial's folder without its name."""
    trials: dict[str, dict[str, Numbers]] = {}
    for row in rows:
        others = {name: value for name, value in row["overrides"].items() if name != key}
        with (run.with_name(f"{run.name}-{row['trial']}") / "metrics.csv").open(newline="") as file:
            best = min(float(line["val/loss"]) for line in csv.DictReader(file) if line.get("val/loss"))
        value = str(row["overrides"].get(key))
        trials.setdefault(value, {})[json.dumps(others, sort_keys=True)] = (best, row["rougeL"])
    return trials


def interval(differences: Sequence[float]) -> Numbers:
    """95 %, of their mean. Raises UserError for fewer than two.

    >>> [round(end, 2) for end in interval([1.0, 2.0, 3.0, 2.0, 2.0])]
    [1.12, 2.88]
    """
    if len(differences) < 2:
        raise UserError("fewer than two pairs: give the trials the same seeds")
    half = t_quantile(0.975, len(differences) - 1) * stdev(differences) / len(differences) ** 0.5
    return fmean(differences) - half, fmean(differences) + half


if __name__ == "__main__":
    sys.exit(main())
