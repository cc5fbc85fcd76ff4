"""Which few metrics lead in tables, reports, cards and comparisons, and why.

metrics: metric -> mean, ci95 and n, the rows that have it, as `summarise_metrics` gives them; n: all rows.
"""

from collections.abc import Mapping
from typing import TypedDict

GOOGLES = ("rouge1", "rouge2", "rougeL", "chrf")
UNICODES = ("rouge1_unicode", "rouge2_unicode", "rougeL_unicode", "chrf")
HEAD_METRICS = tuple(dict.fromkeys([*GOOGLES, *UNICODES]))


class Mean(TypedDict, total=False):
    """Of a metric; `n` is missing in files of older versions."""

    mean: float | None
    ci95: list[float | None]
    n: int


Metrics = Mapping[str, Mean]


def choose_head(metrics: Metrics, n: int) -> tuple[str, ...]:
    """Google's ROUGE where it reads all rows; else the one that does."""
    return UNICODES if count_unread(metrics, n) else GOOGLES


def lead_metric(metrics: Metrics, n: int) -> str:
    return choose_head(metrics, n)[2]


def count_unread(metrics: Metrics, n: int) -> int:
    """Rows that Google's ROUGE can't read. An older version did not say, and had no other ROUGE to lead with."""
    return n - metrics["rougeL"].get("n", n) if "rougeL_unicode" in metrics else 0


def say_why(metrics: Metrics, n: int) -> str:
    """One line where Google's ROUGE does not lead, else ""."""
    return describe_unread(unread, n) if (unread := count_unread(metrics, n)) else ""


def describe_unread(unread: int, n: int) -> str:
    rows = f"all {n} rows" if unread == n else f"{unread} of {n} rows"
    return f"Google's ROUGE sees fewer than half of the letters in {rows}: null there; rouge_unicode reads all"
