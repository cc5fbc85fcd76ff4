"""How far a model that left the house is from the adapter on its 4-bit base, on the same rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from revinst.evaluation.rouge import score_rouge
from revinst.evaluation.statistics import bootstrap_interval, number_groups


def summarise_drift(
    divergence: np.ndarray,
    texts: Sequence[str],
    own_texts: Sequence[str],
    references: Sequence[str],
    groups: Sequence[str],
) -> dict[str, Any]:
    """divergence: KL(adapter || this form) at each target token, nats. texts: greedy, of the adapter; own_texts: of
    this form. The ROUGE-L difference is this form's less the adapter's, its interval paired by row.
    """
    ours, theirs = (
        np.array([score_rouge(text, reference)[2] for text, reference in zip(part, references, strict=True)])
        for part in (own_texts, texts)
    )
    equal = [a == b for a, b in zip(texts, own_texts, strict=True)]
    low, high = bootstrap_interval(ours - theirs, number_groups(groups))
    return {
        "kl": {
            "mean": float(divergence.mean()),
            "worst": float(divergence.max()),
            "tokens": len(divergence),
        },
        "equal_greedy": {"share": float(np.mean(equal)), "rows": sum(equal), "of": len(equal)},
        "rougeL": {
            "adapter": float(theirs.mean()),
            "this": float(ours.mean()),
            "difference": float((ours - theirs).mean()),
            "ci95": [None if np.isnan(bound) else bound for bound in (low, high)],
        },
    }


def drift_cells(name: str, drift: Mapping[str, Any]) -> list[str]:
    """One line of a table: form, mean and worst KL, equal predictions, ROUGE-L difference."""
    rouge, equal = drift["rougeL"], drift["equal_greedy"]
    low, high = rouge["ci95"]
    interval = "" if low is None else f" [{low:+.3f}, {high:+.3f}]"
    return [
        name,
        f"{drift['kl']['mean']:.1e}",
        f"{drift['kl']['worst']:.1e}",
        f"{equal['rows']}/{equal['of']}",
        f"{rouge['difference']:+.3f}{interval}",
    ]


DRIFT_COLUMNS = ("form", "mean KL, nats", "worst KL", "equal greedy texts", "ROUGE-L difference [95 %]")


def build_drift_table(report: Mapping[str, Any]) -> Table:
    table = Table(*DRIFT_COLUMNS, title=f"against the adapter on its base, {report['rows']} rows")
    for name, drift in report["forms"].items():
        table.add_row(*drift_cells(name, drift))
    return table
