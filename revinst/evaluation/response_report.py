"""`report.html` of a run that writes responses: its scores beside its base's, and every text beside the owner's own."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.table import Table

from revinst.evaluation.head import HEAD_METRICS, choose_head, say_why
from revinst.evaluation.memorisation import WARNING_WORDS
from revinst.evaluation.report import format_interval, format_number
from revinst.runs.files import write_text


def write_response_report(
    path: Path, title: str, scores: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]
) -> None:
    """One self-contained HTML file; everything that comes from data is escaped.

    predictions: with `verbatim` and, in `base`, what the base wrote for the same instruction.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": format_number, "interval": format_interval}
    folder = files("revinst.evaluation").joinpath("report_files")
    html = environment.from_string(folder.joinpath("responses.html.j2").read_text(encoding="utf-8")).render(
        title=title,
        scores=scores,
        metrics=HEAD_METRICS,
        head=choose_head(scores["tuned"]["metrics"], scores["n"]),
        why=say_why(scores["tuned"]["metrics"], scores["n"]),
        rows=predictions,
        style=folder.joinpath("report.css").read_text(encoding="utf-8"),
    )
    write_text(path, html)


def build_response_table(scores: dict[str, Any]) -> Table:
    table = Table(title=f"{scores['n']} held-out texts in {scores['num_groups']} groups")
    for name in ("", "base", "tuned", "own"):
        table.add_column(name, justify="right" if name else "left")
    base, tuned, own = scores["base"], scores["tuned"], scores["own_style"]
    table.add_row("perplexity", *(f"{part['perplexity']:.2f}" for part in (base, tuned)), "")
    for metric in choose_head(tuned["metrics"], scores["n"]):
        table.add_row(metric, *(format_number(part["metrics"][metric]["mean"]) for part in (base, tuned)), "")
    for name in ("words", "words_a_sentence", "greeting", "sign_off"):
        table.add_row(name, *(f"{part[name]:.2f}" for part in (base["style"], tuned["style"], own)))
    for name in base["style"]["distance"]:
        found = (f"{part['style']['distance'][name]:.3f}" for part in (base, tuned))
        table.add_row(f"distance: {name}", *found, "0")
    memorised = scores["memorisation"]
    table.add_row("longest verbatim run", "", str(memorised["longest"]), str(memorised["own_longest"]))
    table.caption = f"{len(memorised['warnings'])} texts hold {WARNING_WORDS} words or more of a training text"
    if why := say_why(tuned["metrics"], scores["n"]):
        table.caption += f"\n{why}"
    return table
