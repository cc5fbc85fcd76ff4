"""Paired comparison of evaluations of the same examples: what `revinst compare` prints."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import numpy as np
from rich.table import Table

from revinst.errors import UserError
from revinst.evaluation.choice import find_files, name_seeds, read_scored_predictions, split_seeds
from revinst.evaluation.differences import find_differences
from revinst.evaluation.head import describe_unread
from revinst.evaluation.judged import Orders, describe_orders
from revinst.evaluation.report import count
from revinst.evaluation.statistics import FEWEST, adjust_holm, compare_paired, number_groups
from revinst.evaluation.summary import none_if_nan
from revinst.inference.predictions import Row
from revinst.progress import as_written

MAX_NAMED_IDS = 3


class Part(TypedDict):
    """A `Comparison` as JSON. p_holm: adjusted over what it is one of."""

    n: int
    difference: float | None
    ci95: list[float | None]
    p: float
    p_holm: NotRequired[float]
    wins: int
    ties: int
    losses: int
    detectable: float | None


class Pair(Part):
    """A system against the first. note: a sentence where interval and p disagree, or ""."""

    system: str
    note: str
    by_category: dict[str, Part]


class JudgedPair(Pair):
    """A system against the first before a judge: a row is 1 where it is better, -1 where it is worse, else 0."""

    judge: Orders


class SystemMeans(TypedDict):
    """sd: of the seeds' means; None for one seed."""

    name: str
    mean: float
    seeds: list[float]
    sd: float | None


class Result(TypedDict):
    """What `revinst compare --json` prints. why: this metric, or ""; differences: of `find_differences`; judged: with
    `--judge` alone.
    """

    metric: str
    why: str
    differences: dict[str, list[str]]
    n: int
    num_groups: int
    systems: list[SystemMeans]
    against: str
    pairs: list[Pair]
    judged: NotRequired[list[JudgedPair]]


@dataclass(frozen=True, slots=True)
class System:
    """Scored predictions of one system by id, one dict for each of its seeds."""

    name: str
    seeds: list[dict[str, Row]]
    file: Path | None = None  # of the first seed

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
    asked = split_seeds(text)
    paths = [files[path] for path in asked]
    return System(name_seeds(asked), [read_scored_predictions(path) for path in paths], paths[0])


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


def compare_systems(systems: Sequence[System], metric: str | None = None, *, rank: bool = False) -> Result:
    """Each system's mean and spread over seeds, and each against the first: overall and by category.

    metric: None: the one that `choose_metric` takes. rank: the best one first, as for checkpoints of one
    run or trials of a sweep.

    Several seeds of a system count as their mean on each example. p values are adjusted by Holm's method: over the
    systems, and over the categories of each pair.
    """
    ids = check_same_examples(systems)
    metric, why = (metric, "") if metric else choose_metric(systems)
    values = [system.values(ids, metric) for system in systems]
    if rank:
        order = sorted(range(len(systems)), key=lambda number: -np.nanmean(values[number]))
        systems, values = [systems[number] for number in order], [values[number] for number in order]
    first = systems[0].seeds[0]
    groups = number_groups([first[example_id].get("group", example_id) for example_id in ids])
    categories = np.array([first[example_id].get("category", "") for example_id in ids], dtype=object)
    rows = [found.mean(0) for found in values]
    pairs = [
        compare_pair(system.name, rows[0], other, groups, categories)
        for system, other in zip(systems[1:], rows[1:], strict=True)
    ]
    for pair, adjusted in zip(pairs, adjust_holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = adjusted
        pair["note"] = note_disagreement(pair, len(pairs))
    known = [system.file for system in systems if system.file]
    return {
        "metric": metric,
        "why": why,
        "differences": find_differences(known) if len(known) == len(systems) else {},
        "n": len(ids),
        "num_groups": int(groups.max()) + 1,
        "systems": [describe_seeds(system.name, found) for system, found in zip(systems, values, strict=True)],
        "against": systems[0].name,
        "pairs": pairs,
    }


def choose_metric(systems: Sequence[System]) -> tuple[str, str]:
    """rougeL, or rougeL_unicode where some rows have no rougeL and all systems have the other; and why, or ""."""
    rows = [row for system in systems for seed in system.seeds for row in seed.values()]
    unread = [row for row in rows if row.get("rougeL") is None]
    if not unread or any("rougeL_unicode" not in row for row in rows):
        return "rougeL", ""
    first = systems[0].seeds[0]
    return "rougeL_unicode", describe_unread(sum(row.get("rougeL") is None for row in first.values()), len(first))


def note_disagreement(pair: Pair, num_pairs: int) -> str:
    """A sentence where the interval says one thing and p another; "" where they agree."""
    low, high = pair["ci95"]
    if low is None or high is None or (low <= 0 <= high) == (pair["p_holm"] >= 0.05):
        return ""
    adjusted = f", adjusted for {num_pairs} comparisons" if num_pairs > 1 else ""
    found = "holds 0 and p is below 0.05" if low <= 0 <= high else "leaves 0 out and p is not below 0.05"
    return (
        f"{pair['system']}: the interval {found}: it is a bootstrap of this difference alone, p a sign-flip test"
        f"{adjusted}; take the difference for undecided."
    )


def describe_seeds(name: str, values: np.ndarray) -> SystemMeans:
    """Mean over seeds, and their standard deviation (None for one seed)."""
    means = np.nanmean(values, axis=1)
    spread = float(means.std(ddof=1)) if len(means) > 1 else None
    return {"name": name, "mean": float(means.mean()), "seeds": means.tolist(), "sd": spread}


def compare_pair(name: str, a: np.ndarray, b: np.ndarray, groups: np.ndarray, categories: np.ndarray) -> Pair:
    by_category = {}
    for category in sorted(set(categories)):
        chosen = categories == category
        by_category[category] = describe_pair(a[chosen], b[chosen], groups[chosen])
    for part, adjusted in zip(by_category.values(), adjust_holm([p["p"] for p in by_category.values()]), strict=True):
        part["p_holm"] = adjusted
    return {"system": name, "note": "", "by_category": by_category, **describe_pair(a, b, groups)}


def describe_pair(a: np.ndarray, b: np.ndarray, groups: np.ndarray) -> Part:
    """A Comparison as JSON."""
    found = asdict(compare_paired(a, b, groups))
    found["ci95"] = [none_if_nan(bound) for bound in found["ci95"]]
    return cast(Part, found | {name: none_if_nan(found[name]) for name in ("difference", "detectable")})


def build_comparison_tables(result: Result, least: int = FEWEST) -> list[Table]:
    """In what the systems differ, their means, and a table for each pair. least: rows of a category that is shown."""
    title = f"{result['metric']} on {count('row', result['n'])} in {count('group', result['num_groups'])}"
    table = Table(title=title, caption=result["why"] or None)
    for name, justify in (("system", "left"), ("mean", "right"), ("seeds", "right"), ("sd", "right")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for system in result["systems"]:
        spread = "-" if system["sd"] is None else f"{system['sd']:.4f}"
        table.add_row(as_written(system["name"]), f"{system['mean']:.4f}", str(len(system["seeds"])), spread)
    differences = [build_difference_table(result)] if result["differences"] else []
    against = result["against"]
    pairs = [build_pair_table(pair, f"{pair['system']} minus {against}", least) for pair in result["pairs"]]
    judged = [
        build_pair_table(pair, f"judge: {pair['system']} against {against}", least, describe_orders(pair["judge"]))
        for pair in result.get("judged", [])
    ]
    return [*differences, table, *pairs, *judged]


def build_difference_table(result: Result) -> Table:
    table = Table(title="in what they differ")
    for name in ("", *(system["name"] for system in result["systems"])):
        table.add_column(as_written(name), overflow="fold")
    for key, values in result["differences"].items():
        table.add_row(as_written(key), *map(as_written, values))
    return table


def build_pair_table(pair: Pair, title: str, least: int, more: Iterable[str] = ()) -> Table:
    """more: lines below it."""
    few = sum(part["n"] < least for part in pair["by_category"].values())
    lines = [f"Holm's p; detectable with these rows: {format_difference(pair['detectable']).lstrip('+')}"]
    lines += [f"left out: {few} with fewer than {least} rows"] if few else []
    lines += [pair["note"]] if pair["note"] else []
    lines += more
    table = Table(title=as_written(title), caption=as_written("\n".join(lines)))
    table.add_column("rows", overflow="fold")
    for name in ("n", "diff", "95 % interval", "p", "win/tie/loss"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("all", *format_pair(pair), style="bold")
    table.add_section()
    for category, part in pair["by_category"].items():
        if part["n"] < least:
            continue
        table.add_row(as_written(category or "(none)"), *format_pair(part))
    return table


def format_pair(part: Part) -> list[str]:
    low, high = map(format_difference, part["ci95"])
    outcomes = f"{part['wins']}/{part['ties']}/{part['losses']}"
    return [str(part["n"]), format_difference(part["difference"]), f"{low} {high}", f"{part['p_holm']:.4f}", outcomes]


def format_difference(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
