"""Where the marks of a plot go, in SVG units; the report's template draws them."""

import csv
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from revinst.evaluation.baselines import strongest_baseline
from revinst.evaluation.statistics import FEWEST
from revinst.system import allow_long_csv_fields

FIRST_CURVES = ("train/loss", "val/loss", "train/lr", "train/grad_norm")
WIDTH, HEIGHT = 560, 200
MAX_POINTS = 400
MAX_BARS = 30
NOT_DRAWN = "bad_rows"  # of metrics.csv: ids, which may look like numbers


@dataclass(frozen=True, slots=True)
class Curve:
    """A line over steps: `points` for an SVG polyline, the first at the left; `low` and `high` end the y axis."""

    name: str
    points: str
    low: float
    high: float
    first_step: int
    last_step: int
    last: float

    @property
    def is_usual(self) -> bool:
        return self.name in FIRST_CURVES


@dataclass(frozen=True, slots=True)
class Bar:
    """One label's mean with its interval and its strongest baseline, in units of 0-1 of the plot's width."""

    label: str
    n: int
    mean: float
    low: float
    high: float
    baseline: float
    baseline_name: str

    @property
    def is_drawn(self) -> bool:
        return self.n >= FEWEST


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars over one axis that ends at `top`; `left_out`: how many labels had too few examples to be among them.

    A part of fewer than FEWEST examples has its figures beside no bar: at its length nobody should look.
    """

    title: str
    top: float
    bars: list[Bar] = field(default_factory=list)
    left_out: int = 0

    @property
    def says_something(self) -> bool:
        """One bar alone repeats the head figures."""
        return sum(bar.is_drawn for bar in self.bars) > 1


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Logged name -> (step, value) from a run's metrics.csv; empty without the file.

    Only what is a number is part of a curve: the file also holds words (`bad_rows`), and other versions or an edit may
    have left anything in it. A report is not lost for that.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    allow_long_csv_fields()
    with suppress(OSError, csv.Error), path.open(newline="", encoding="utf-8", errors="replace") as file:
        for line in csv.DictReader(file):
            step = read_number(line.pop("step", None))
            for name, text in line.items():
                value = read_number(text)
                if name not in (None, NOT_DRAWN) and value is not None and step is not None and math.isfinite(step):
                    curves.setdefault(name, []).append((int(step), value))
    return curves


def read_number(text: Any) -> float | None:
    """None for what is none, such as an empty cell, or the list of cells that have no column."""
    try:
        return float(text)
    except (ValueError, TypeError):
        return None


def build_curves(logged: Mapping[str, Sequence[tuple[int, float]]]) -> list[Curve]:
    """All that two values have been logged of, the usual ones first."""
    built = [build_curve(name, logged.get(name, ())) for name in dict.fromkeys((*FIRST_CURVES, *logged))]
    return [curve for curve in built if curve]


def build_curve(name: str, values: Sequence[tuple[int, float]]) -> Curve | None:
    """None below two finite values. Long runs are thinned to MAX_POINTS."""
    finite = [(step, value) for step, value in values if abs(value) < float("inf")]
    if len(finite) < 2:
        return None
    stride = -(-len(finite) // MAX_POINTS)
    kept = finite[::stride] if finite[::stride][-1] == finite[-1] else [*finite[::stride], finite[-1]]
    low, high = min(value for _, value in kept), max(value for _, value in kept)
    first, last = kept[0][0], kept[-1][0]
    points = " ".join(
        f"{(step - first) / max(last - first, 1) * WIDTH:.1f},{HEIGHT - (value - low) / (high - low or 1) * HEIGHT:.1f}"
        for step, value in kept
    )
    return Curve(name, points, low, high, first, last, kept[-1][1])


def build_bars(title: str, parts: Mapping[str, Mapping[str, Any]], metric: str) -> BarChart:
    """Bars of one metric by part, as `scores.json` holds them in `by_category` and its like; the MAX_BARS largest."""
    known = [label for label in parts if parts[label][metric] is not None]
    largest = set(sorted(known, key=lambda label: -parts[label]["n"])[:MAX_BARS])
    bars = [build_bar(label, parts[label], metric) for label in known if label in largest]
    top = max([max(bar.high, bar.baseline) for bar in bars], default=0.0) or 1.0
    scaled = [
        replace(bar, mean=bar.mean / top, low=bar.low / top, high=bar.high / top, baseline=bar.baseline / top)
        for bar in bars
    ]
    return BarChart(title, top, scaled, len(known) - len(scaled))


def build_bar(label: str, part: Mapping[str, Any], metric: str) -> Bar:
    mean, (low, high) = part[metric], part["ci95"][metric]
    baseline = strongest_baseline(part["baselines"], metric)
    ends = (mean, mean) if low is None else (low, high)
    return Bar(label or "(none)", part["n"], mean, *ends, part["baselines"][baseline][metric] or 0.0, baseline)
