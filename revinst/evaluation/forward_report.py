"""`report.html` of a run that writes responses: its scores beside its base's, and every text beside the owner's own."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from revinst.evaluation.report import format_interval, format_number
from revinst.runs.files import write_text

METRICS = ("rouge1", "rouge2", "rougeL", "chrf")


def write_forward_report(path: Path, title: str, scores: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """One self-contained HTML file; everything that comes from data is escaped.

    rows: prediction rows with `verbatim` and, in `base`, what the base wrote for the same instruction.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": format_number, "interval": format_interval}
    folder = files("revinst.evaluation").joinpath("report_files")
    html = environment.from_string(folder.joinpath("forward.html.j2").read_text(encoding="utf-8")).render(
        title=title,
        scores=scores,
        metrics=METRICS,
        rows=rows,
        style=folder.joinpath("report.css").read_text(encoding="utf-8"),
    )
    write_text(path, html)
