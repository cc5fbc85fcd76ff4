"""`report.html` of a run that writes responses: its scores beside its base's, and every text beside the owner's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from revinst.evaluation.charts import build_curves
from revinst.evaluation.facts import Facts
from revinst.evaluation.head import HEAD_METRICS, choose_head, say_why
from revinst.evaluation.memorisation import WARNING_WORDS
from revinst.evaluation.page import render_page
from revinst.evaluation.report import count, format_number
from revinst.runs.files import write_text

STYLE = {  # of `describe_style`: what it is called, and how it is written
    "words": ("words a text", "{:.0f}"),
    "words_a_sentence": ("words a sentence", "{:.1f}"),
    "greeting": ("texts with a greeting", "{:.0%}"),
    "sign_off": ("texts with a sign-off", "{:.0%}"),
}

LEAKS = {  # of `ask_for_secrets`; before the first stands what was asked for, and how many of these
    "greedy": "given away",
    "sampled": "the same, of samples",
    "exposure": "exposure, bits",
}


def write_response_report(
    path: Path,
    title: str,
    scores: Mapping[str, Any],
    predictions: Sequence[Mapping[str, Any]],
    facts: Facts,
    curves: Mapping[str, Sequence[tuple[int, float]]],
) -> None:
    """One self-contained HTML file; everything that comes from data is escaped.

    predictions: with `verbatim` and, in `base`, what the base wrote for the same instruction. curves: logged name ->
    (step, value); all are drawn.
    """
    html = render_page(
        "responses.html.j2",
        title=title,
        facts=facts,
        n=scores["n"],
        num_groups=scores["num_groups"],
        scores=scores,
        metrics=HEAD_METRICS,
        head=choose_head(scores["tuned"]["metrics"], scores["n"]),
        why=say_why(scores["tuned"]["metrics"], scores["n"]),
        styles={name: label for name, (label, _) in STYLE.items()},
        style=format_style,
        curves=build_curves(curves),
        list_leaks=list_leaks,
        size=describe_size(scores),
        rows=predictions,
    )
    write_text(path, html)


def build_response_table(scores: dict[str, Any]) -> Table:
    table = Table(title=describe_size(scores))
    for name in ("", "base", "tuned", "own"):
        table.add_column(name, justify="right" if name else "left")
    base, tuned, own = scores["base"], scores["tuned"], scores["own_style"]
    table.add_row("perplexity", *(f"{part['perplexity']:.2f}" for part in (base, tuned)), "")
    for metric in choose_head(tuned["metrics"], scores["n"]):
        table.add_row(metric, *(format_number(part["metrics"][metric]["mean"]) for part in (base, tuned)), "")
    for name, (label, _) in STYLE.items():
        table.add_row(label, *(format_style(part[name], name) for part in (base["style"], tuned["style"], own)))
    for name in base["style"]["distance"]:
        found = (f"{part['style']['distance'][name]:.3f}" for part in (base, tuned))
        table.add_row(f"distance: {name}", *found, "0")
    memorised = scores["memorisation"]
    longest = [f"{memorised[name]} words" for name in ("longest", "own_longest")]
    table.add_row("longest verbatim run", "", *longest)
    for group, leaks in scores.get("leaks", {}).items():
        for label, base_leaks, tuned_leaks in list_leaks(group, leaks):
            table.add_row(label, base_leaks, tuned_leaks, "")
    warned = count("tuned text", len(memorised["warnings"]), verb=("holds", "hold"))
    table.caption = f"{warned} {WARNING_WORDS} words or more of a training text"
    if why := say_why(tuned["metrics"], scores["n"]):
        table.caption += f"\n{why}"
    return table


def list_leaks(group: str, leaks: Mapping[str, Mapping[str, float | None]]) -> list[tuple[str, str, str]]:
    """For people: (measure, of the base, of the tuned model); measures that none of the strings has are left out."""
    lines = []
    for measure, label in LEAKS.items():
        if leaks["tuned"][measure] is not None:
            name = f"{leaks['tuned']['n']} {group} {label}" if measure == "greedy" else label
            base, tuned = (format_number(leaks[system][measure]) for system in ("base", "tuned"))
            lines.append((name, base, tuned))
    return lines


def describe_size(scores: Mapping[str, int]) -> str:
    """`8 held-out texts in 1 group of near-duplicates`"""
    return f"{count('held-out text', scores['n'])} in {count('group', scores['num_groups'])} of near-duplicates"


def format_style(value: float, name: str) -> str:
    return STYLE[name][1].format(value)
