"""What people look at: the head table in the terminal, and `report.html`."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.table import Table

from revinst.evaluation.baselines import FLOORS, check_floors
from revinst.evaluation.charts import build_bars, build_curve
from revinst.evaluation.scores import HEAD_METRICS
from revinst.run import write_text

CURVES = ("train/loss", "val/loss", "train/lr", "train/grad_norm")
ROW_FIELDS = (
    "id", "category", "response", "reference", "prediction", "nearest_train_instruction", "max_similarity",
    "rougeL", "rouge1", "chrf", "copy_rate", "length_ratio", "degenerate", "stopped", "logp_reference",
    "logp_prediction", "gain_prediction", "gain_reference",
)  # fmt: skip
# Inside <script> only these could end it or be read as markup; JSON may spell any character this way.
UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def build_table(scores: Mapping[str, Any], tuned: str = "tuned") -> Table:
    """Tuned model, base and floors by head metric, in 80 columns; the tuned line with its uncertainty."""
    check_floors(list(scores["baselines"]))
    table = Table(title=f"{scores['n']} rows, 0-1; ± reaches the farther end of the 95 % interval")
    table.add_column("system", no_wrap=True)
    for metric in HEAD_METRICS:
        table.add_column(metric, justify="right", no_wrap=True)
    for name in FLOORS:
        table.add_row(name, *(format_number(scores["baselines"][name][metric]) for metric in HEAD_METRICS))
    table.add_section()
    table.add_row(tuned, *(format_interval(scores["metrics"][metric]) for metric in HEAD_METRICS), style="bold")
    return table


def format_number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def format_interval(value: Mapping[str, Any]) -> str:
    low, high = value["ci95"]
    if value["mean"] is None or low is None:
        return format_number(value["mean"])
    return f"{value['mean']:.3f}±{max(value['mean'] - low, high - value['mean']):.3f}"


def write_report(
    path: Path,
    title: str,
    scores: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    curves: Mapping[str, Sequence[tuple[int, float]]] | None = None,
    tuned: str = "tuned",
) -> None:
    """One self-contained HTML file; everything that comes from data is escaped.

    rows: prediction rows with their scores. curves: logged name -> (step, value).
    """
    from jinja2 import Environment, StrictUndefined

    check_floors(list(scores["baselines"]))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": format_number, "interval": format_interval}
    folder = files("revinst.evaluation").joinpath("report_files")
    built = [build_curve(name, (curves or {}).get(name, ())) for name in CURVES]
    divisions = {
        "By category": scores["by_category"],
        "By length of the response": scores.get("by_response_length", {}),
        "By similarity to the nearest training row": scores.get("by_similarity", {}),
    }
    html = environment.from_string(folder.joinpath("report.html.j2").read_text(encoding="utf-8")).render(
        title=title,
        tuned=tuned,
        scores=scores,
        floors=FLOORS,
        head=HEAD_METRICS,
        strongest=max(FLOORS, key=lambda name: scores["baselines"][name]["rougeL"] or 0.0),
        curves=[curve for curve in built if curve],
        bars=[build_bars(name, parts, "rougeL") for name, parts in divisions.items() if parts],
        audit=audit_leakage(rows),
        style=folder.joinpath("report.css").read_text(encoding="utf-8"),
        script=folder.joinpath("report.js").read_text(encoding="utf-8"),
        rows=embed_json([{name: row.get(name) for name in ROW_FIELDS} for row in rows]),
        categories=sorted({row["category"] for row in rows}),
    )
    write_text(path, html)


def embed_json(value: Any) -> str:
    """JSON that may stand inside `<script>`: `"</script>"` -> `"\\u003c/script\\u003e"`."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    for character, escape in UNSAFE.items():
        text = text.replace(character, escape)
    return text


def audit_leakage(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many rows are how similar to some training row, and the most similar one; `known` is 0 without an audit."""
    similar = [(row["max_similarity"], row["id"]) for row in rows if row.get("max_similarity") is not None]
    return {
        "known": len(similar),
        "at_least": {edge: sum(value >= edge for value, _ in similar) for edge in (0.3, 0.5, 0.7, 0.9)},
        "highest": max(similar, default=(None, None)),
    }
