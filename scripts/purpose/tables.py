"""The tables of the experiment, computed from what lies in a folder of `scripts/purpose`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from revinst.corpus.filters import Thresholds, build_filters
from revinst.data.words import count_words
from revinst.evaluation.comparison import Part, describe_pair
from revinst.evaluation.scores import score_predictions
from revinst.evaluation.statistics import adjust_holm, number_groups
from revinst.runs.files import read_json

from .arms import BY_LENGTH, LENGTHS, ORDERS, SHARES, TIMES, Rows, keep_best, list_arms, read_lines, read_rows
from .work import METRICS

Key = tuple[str, int]  # arm, epochs
Results = dict[Key, dict[int, dict[str, Any]]]  # -> seed -> line
NAMES = {"log_p": "log p a token", "rougeL_unicode": "ROUGE-L", "chrf": "chrF"}
PAIRS = (  # b is set against a
    ("base", "true"), ("base", "consensus"), ("constant", "consensus"), ("shuffled", "consensus"),
    ("lead_words", "consensus"), ("greedy", "consensus"), ("consensus", "filtered"), ("filtered", "no_short"),
    ("consensus", "judged"), ("true", "greedy"), ("true", "consensus"), ("true", "filtered"),
)  # fmt: skip


def print_tables(folder: Path) -> None:
    results, rows = read_results(folder), read_rows(folder)
    groups = number_groups([row["group"] for row in read_lines(folder / "heldout.jsonl")])
    num_seed = read_json(folder / "settings.json")["seed_rows"]
    stages = list_arms(num_seed, rows.early, len(rows.pool))
    grown = {arm for arm, _ in stages["seed"]}
    for epochs, stage in ((3, "seed"), (1, "one")):
        title = f"{epochs} epoch{'s' * (epochs > 1)}"
        whole = [key for key in results if key[1] in (0, epochs) and key[0] not in grown and is_whole(key[0])]
        print_systems(f"Instructions from each source, {title}", results, whole, groups, PAIRS, epochs)
        print_by_length(title, results, whole, read_lines(folder / "heldout.jsonl"))
        few = [key for key in stages[stage] if key[0] in grown]
        print_systems(f"{num_seed} true rows and more, {title}", results, few, groups, pair_grown(num_seed), epochs)
    curves = [("consensus", 3), *stages["curves"]]
    print_systems("A share of the rows, 3 epochs", results, curves, groups, pair_curves(), 3)
    print_by_length("a share of the rows, 3 epochs", results, curves, read_lines(folder / "heldout.jsonl"))
    steps = [(f"step-{step}", 3) for step in rows.early]
    pairs = [(arm, "greedy") for arm, _ in steps]
    print_systems("Instructions of earlier checkpoints, 3 epochs", results, [*steps, ("greedy", 3)], groups, pairs, 3)
    print_likeness(rows)
    print_filters(folder, rows)


def is_whole(arm: str) -> bool:
    return "-" not in arm


def pair_grown(num_seed: int) -> list[tuple[str, str]]:
    sizes = [times * num_seed for times in TIMES]
    written = [("seed", f"seed-{size}") for size in sizes]
    again = [("seed_again", f"{name}-{sizes[1]}") for name in ("seed", "seed+true")]
    return written + [(f"seed+true-{size}", f"seed-{size}") for size in sizes] + again


def pair_curves() -> list[tuple[str, str]]:
    others = [order for order in ORDERS if order != "random"]
    at_random = [(f"random-{share}", f"{order}-{share}") for share in SHARES for order in others]
    at_random += [("random-50", arm) for arm in BY_LENGTH]
    return at_random + [("consensus", f"{order}-{share}") for share in SHARES for order in others]


def read_results(folder: Path) -> Results:
    results: Results = defaultdict(dict)
    for row in read_lines(folder / "results.jsonl"):
        results[row["arm"], row["epochs"]][row["seed"]] = row
    return dict(results)


def print_systems(
    title: str,
    results: Results,
    keys: Sequence[Key],
    groups: np.ndarray,
    pairs: Sequence[tuple[str, str]],
    epochs: int,
) -> None:
    """Means of each system, and the pairs of these that are there; nothing where no system was trained."""
    keys = [key for key in keys if key in results]
    if not any(e for _, e in keys):  # the base alone
        return
    print(f"\n### {title}\n")
    print_table(
        ["trained with", "rows", "seeds", *NAMES.values()], [describe_system(arm, results[arm, e]) for arm, e in keys]
    )
    known = {arm: results[arm, e] for arm, e in keys}
    compared = compare_all(known, [pair for pair in pairs if {*pair} <= known.keys()], groups)
    if compared:
        print(f"\nDifferences ({epochs} epochs); p by Holm over all {len(compared) * len(METRICS)} of this table:\n")
        print_table(["", *NAMES.values()], [[f"{b} - {a}", *cells] for (a, b), cells in compared.items()])


def describe_system(arm: str, seeds: Mapping[int, dict[str, Any]]) -> list[str]:
    """Means over rows and seeds, and the standard deviation of the seeds' means."""
    sizes = sorted({row["rows"] for row in seeds.values()})
    means = {metric: [np.nanmean(np.array(row[metric], dtype=float)) for row in seeds.values()] for metric in METRICS}
    cells = [
        f"{np.mean(found):.4f}" + (f" (sd {np.std(found, ddof=1):.4f})" if len(found) > 1 else "")
        for found in means.values()
    ]
    return [arm, "0" if arm == "base" else "-".join(map(str, sizes)), str(len(seeds)), *cells]


def print_by_length(title: str, results: Results, keys: Sequence[Key], heldout: Sequence[Mapping[str, str]]) -> None:
    """log p a token by the words of the held-out response; means over seeds."""
    keys = [key for key in keys if key in results]
    if not any(epochs for _, epochs in keys):
        return
    words = np.array([count_words(row["response"]) for row in heldout])
    parts = [(words >= least) & (words < below) for least, below in pairwise(LENGTHS)]
    print(f"\n### log p a token by the words of the response, {title}\n")
    names = [f"{least:g} to {below - 1:g}" for least, below in pairwise(LENGTHS[:-1])] + [f"{LENGTHS[-2]:g} and more"]
    print_table(
        ["trained with", *(f"{name} ({part.sum()} rows)" for name, part in zip(names, parts, strict=True))],
        [
            [arm, *(format_mean(np.array([row["log_p"] for row in seeds.values()], dtype=float)[:, p]) for p in parts)]
            for arm, seeds in ((arm, results[arm, epochs]) for arm, epochs in keys)
        ],
    )


def compare_all(
    systems: Mapping[str, Mapping[int, dict[str, Any]]], pairs: Sequence[tuple[str, str]], groups: np.ndarray
) -> dict[tuple[str, str], list[str]]:
    """Pair -> a cell for each metric: b minus a over the seeds that both have, with their rows paired.

    A pair that shares no seed is left out. The base, which no seed touches, is the same with all of them.
    """
    if "base" in systems:
        seeds = {seed for of_system in systems.values() for seed in of_system}
        systems = {**systems, "base": dict.fromkeys(seeds, next(iter(systems["base"].values())))}
    pairs = [(a, b) for a, b in pairs if systems[a].keys() & systems[b].keys()]
    found: dict[tuple[str, str, str], tuple[Part, list[float]]] = {}
    for a, b in pairs:
        for metric in METRICS:
            found[a, b, metric] = compare_seeds(systems[a], systems[b], metric, groups)
    adjusted = dict(zip(found, adjust_holm([part["p"] for part, _ in found.values()]), strict=True))
    return {(a, b): [format_part(*found[a, b, metric], adjusted[a, b, metric]) for metric in METRICS] for a, b in pairs}


def compare_seeds(
    a: Mapping[int, dict[str, Any]], b: Mapping[int, dict[str, Any]], metric: str, groups: np.ndarray
) -> tuple[Part, list[float]]:
    """The pair as `compare` takes it, each row's mean over the seeds of both; and each seed's mean difference."""
    seeds = sorted(a.keys() & b.keys())
    values = [np.array([each[seed][metric] for seed in seeds], dtype=float) for each in (a, b)]
    part = describe_pair(values[0].mean(0), values[1].mean(0), groups)
    return part, np.nanmean(values[1] - values[0], axis=1).tolist()


def format_part(part: Part, seeds: Sequence[float], p: float) -> str:
    """`+0.012 [+0.004, +0.020], p 0.003, seeds +0.008 to +0.015`"""
    low, high = (float("nan") if bound is None else bound for bound in part["ci95"])
    said = "p < 0.001" if p < 0.001 else f"p {p:.3f}"
    spread = f", seeds {min(seeds):+.4f} to {max(seeds):+.4f}" if len(seeds) > 1 else ""
    return f"{part['difference']:+.4f} [{low:+.4f}, {high:+.4f}], {said}{spread}"


def print_likeness(rows: Rows) -> None:
    """How like the true instructions those of each source are, on the pool."""
    true = rows.pool.texts("instruction")
    texts = {f"step {step}, greedy": found for step, found in rows.early.items()}
    texts |= {name: [record[field] for record in rows.written] for name, field in SOURCES.items()}
    print("\n### Likeness of the written instructions to the true ones\n")
    print_table(
        ["", "ROUGE-L", "chrF"], [[name, *map(format_mean, liken(found, true))] for name, found in texts.items()]
    )


SOURCES = {"last, greedy": "greedy", "last, consensus": "instruction"}


def liken(texts: Sequence[str], true: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    scores = score_predictions(texts, true)
    return scores["rougeL_unicode"], scores["chrf"]


def format_mean(values: np.ndarray) -> str:
    return f"{np.nanmean(values):.4f}" if values.size and not np.isnan(values).all() else "-"


def print_filters(folder: Path, rows: Rows) -> None:
    """What each filter of `corpus` drops by itself, and a curve for each score; likeness to the true instruction."""
    records = rows.written
    likeness, _ = liken([record["instruction"] for record in records], rows.pool.texts("instruction"))
    lines = read_json(folder / "filters.json")["prompt_lines"]
    dropped = {
        each.name: np.array([bool(each.why_not(record)) for record in records])
        for each in build_filters(Thresholds(), lines)
    }
    late = ("duplicate_text", "duplicate_instruction")  # of what the others keep
    dropped |= {name: np.array([record["dropped"] == name for record in records]) for name in late}
    dropped["all"] = np.array([bool(record["dropped"]) for record in records])
    print("\n### What the filters drop of the consensus, and its ROUGE-L to the true instruction\n")
    print_table(
        ["filter", "dropped", "ROUGE-L of these", "of the others"],
        [
            [name, f"{found.mean():.1%}", format_mean(likeness[found]), format_mean(likeness[~found])]
            for name, found in dropped.items()
        ],
    )
    print("\n### ROUGE-L to the true instruction of the share that each score keeps\n")
    shares = (90, 75, 50, 25, 10)
    scores = [order for order in ORDERS if order != "random"]
    print_table(
        ["kept by", *(f"{share} %" for share in shares)],
        [[order, *(format_mean(likeness[keep_best(order, share, rows)]) for share in shares)] for order in scores],
    )


def print_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    for cells in (head, ["---"] * len(head), *lines):
        print(f"| {' | '.join(cells)} |")
