"""Paired comparison of evaluations of the same examples: what `revinst compare` prints."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from revinst.errors import UserError
from revinst.evaluation.choice import find_files, read_scored_predictions, split_seeds
from revinst.evaluation.report import count
from revinst.evaluation.statistics import adjust_holm, compare_paired, number_groups
from revinst.evaluation.summary import none_if_nan
from revinst.progress import as_written

MAX_NAMED_IDS = 3


@dataclass(frozen=True, slots=True)
class System:
    """Scored predictions of one system by id, one dict for each of its seeds."""

    name: str
    seeds: list[dict[str, dict[str, Any]]]

    def values(self, ids: Sequence[str], metric: str) -> np.ndarray:
        """float64 `[seeds, examples]`; NaN where one has no such value; UserError where none of a seed has one."""
        rows = [[seed[example_id].get(metric) for example_id in ids] for seed in self.seeds]
        if wrong := [value for seed in rows for value in seed if not is_score(value)]:
            raise UserError(f"--metric {metric}: no score; {self.name} has {json.dumps(wrong[0])[:40]} there")
        values = np.array([[np.nan if value is None else value for value in seed] for seed in rows], dtype=np.float64)
        if np.isnan(values).all(axis=1).any():
            raise UserError(f"{self.name}: no row has a {metric}; see `revinst evaluate --help` for what adds scores")
        return values


def is_score(value: object) -> bool:
    """A number that float64 holds, NaN included, or None for none."""
    return value is None or (isinstance(value, int | float) and not abs(value) > sys.float_info.max)


def read_system(text: str, files: Mapping[Path, Path] | None = None) -> System:
    """`PATH`, or `PATH,PATH,...` for several seeds: run folders, evaluation folders or predictions.jsonl files.

    files: of `find_files`, for all systems that are compared.
    """
    files = files or find_files([text])
    return System(text, [read_scored_predictions(files[path]) for path in split_seeds(text)])


def check_same_examples(systems: Sequence[System]) -> list[str]:
    """The ids, in the order of the first. Raises UserError naming ids that another one lacks, or whose text differs."""
    first = systems[0].seeds[0]
    for system in systems:
        for rows in system.seeds:
            for missing, where in ((first.keys() - rows.keys(), system), (rows.keys() - first.keys(), systems[0])):
                if missing:
                    named = ", ".join(sorted(missing)[:MAX_NAMED_IDS]) + (
                        ", ..." if len(missing) > MAX_NAMED_IDS else ""
                    )
                    raise UserError(
                        f"{where.name} lacks {len(missing)} rows that another has ({named}); score the same rows"
                    )
            changed = [
                example_id for example_id in first if first[example_id]["reference"] != rows[example_id]["reference"]
            ]
            if changed:
                raise UserError(f"{system.name}: row {changed[0]} has another reference; these are not the same rows")
    return list(first)


def compare_systems(systems: Sequence[System], metric: str = "rougeL", *, rank: bool = False) -> dict[str, Any]:
    """Each system's mean and spread over seeds, and each against the first: overall and by category.

    rank: the best one first, as for checkpoints of one run or trials of a sweep.

    Several seeds of a system count as their mean on each example. p values are adjusted by Holm's method: over the
    systems, and over the categories of each pair.
    """
    ids = check_same_examples(systems)
    values = [system.values(ids, metric) for system in systems]
    if rank:
        order = sorted(range(len(systems)), key=lambda number: -np.nanmean(values[number]))
        systems, values = [systems[number] for number in order], [values[number] for number in order]
    first = systems[0].seeds[0]
    groups = number_groups([first[example_id].get("group", example_id) for example_id in ids])
    categories = np.array([first[example_id].get("category", "") for example_id in ids], dtype=object)
    rows = [found.mean(0) for found in values]
    pairs = [
        {"system": system.name} | compare_pair(rows[0], other, groups, categories)
        for system, other in zip(systems[1:], rows[1:], strict=True)
    ]
    for pair, adjusted in zip(pairs, adjust_holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = adjusted
    return {
        "metric": metric,
        "n": len(ids),
        "num_groups": int(groups.max()) + 1,
        "systems": [describe_seeds(system.name, found) for system, found in zip(systems, values, strict=True)],
        "against": systems[0].name,
        "pairs": pairs,
    }


def describe_seeds(name: str, values: np.ndarray) -> dict[str, Any]:
    """Mean over seeds, and their standard deviation (None for one seed)."""
    means = np.nanmean(values, axis=1)
    spread = float(means.std(ddof=1)) if len(means) > 1 else None
    return {"name": name, "mean": float(means.mean()), "seeds": means.tolist(), "sd": spread}


def compare_pair(a: np.ndarray, b: np.ndarray, groups: np.ndarray, categories: np.ndarray) -> dict[str, Any]:
    by_category = {}
    for category in sorted(set(categories)):
        chosen = categories == category
        by_category[category] = describe_pair(a[chosen], b[chosen], groups[chosen])
    for part, adjusted in zip(by_category.values(), adjust_holm([p["p"] for p in by_category.values()]), strict=True):
        part["p_holm"] = adjusted
    return describe_pair(a, b, groups) | {"by_category": by_category}


def describe_pair(a: np.ndarray, b: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """A Comparison as JSON."""
    found = asdict(compare_paired(a, b, groups))
    found["ci95"] = [none_if_nan(bound) for bound in found["ci95"]]
    return found | {name: none_if_nan(found[name]) for name in ("difference", "detectable")}


def build_comparison_tables(result: dict[str, Any]) -> list[Table]:
    """The systems, and a table for each pair."""
    table = Table(title=f"{result['metric']} on {count('row', result['n'])} in {count('group', result['num_groups'])}")
    for name, justify in (("system", "left"), ("mean", "right"), ("seeds", "right"), ("sd", "right")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for system in result["systems"]:
        spread = "-" if system["sd"] is None else f"{system['sd']:.4f}"
        table.add_row(as_written(system["name"]), f"{system['mean']:.4f}", str(len(system["seeds"])), spread)
    return [table, *(build_pair_table(pair, result["against"]) for pair in result["pairs"])]


def build_pair_table(pair: dict[str, Any], against: str) -> Table:
    table = Table(
        title=as_written(f"{pair['system']} minus {against}"),
        caption=f"Holm's p; detectable with these rows: {format_difference(pair['detectable']).lstrip('+')}",
    )
    table.add_column("rows", overflow="fold")
    for name in ("n", "diff", "95 % interval", "p", "win/tie/loss"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("all", *format_pair(pair), style="bold")
    table.add_section()
    for category, part in pair["by_category"].items():
        table.add_row(as_written(category or "(none)"), *format_pair(part))
    return table


def format_pair(part: dict[str, Any]) -> list[str]:
    low, high = map(format_difference, part["ci95"])
    outcomes = f"{part['wins']}/{part['ties']}/{part['losses']}"
    return [str(part["n"]), format_difference(part["difference"]), f"{low} {high}", f"{part['p_holm']:.4f}", outcomes]


def format_difference(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
