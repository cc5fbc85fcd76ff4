"""What people look at: the head table in the terminal, and `report.html`."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.table import Table

from revinst.run import write_text


def build_table(scores: dict[str, Any], tuned: str = "tuned") -> Table:
    """Tuned model, base and floors by metric; the tuned line with its uncertainty."""
    metrics = list(scores["metrics"])
    table = Table(title=f"F1 on {scores['n']} rows; ± reaches the farther end of the 95 % interval")
    table.add_column("system", no_wrap=True)
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    for name, values in scores["baselines"].items():
        table.add_row(name, *(f"{values[metric]:.3f}" for metric in metrics))
    table.add_section()
    table.add_row(tuned, *(format_interval(scores["metrics"][metric]) for metric in metrics), style="bold")
    return table


def format_interval(value: dict[str, Any]) -> str:
    low, high = value["ci95"]
    return f"{value['mean']:.3f} ±{max(value['mean'] - low, high - value['mean']):.3f}"


def write_report(path: Path, title: str, scores: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """One self-contained HTML file; everything that comes from data is escaped."""
    from jinja2 import Environment

    template = files("revinst.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")
    html = Environment(autoescape=True).from_string(template).render(title=title, scores=scores, rows=rows)
    write_text(path, html)
