"""A comparison as a file: a table as Markdown, CSV or LaTeX, or a page with the predictions side by side."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from importlib.resources import files
from pathlib import Path
from typing import Any

from revinst.errors import UserError
from revinst.evaluation.comparison import Part, Result
from revinst.evaluation.judged import describe_orders
from revinst.evaluation.report import count, format_number
from revinst.runs.files import write_text

Predictions = Sequence[Mapping[str, Mapping[str, Any]]]  # of each system, by id
Rows = Sequence[Sequence[str]]  # cells under COLUMNS
COLUMNS = ("system", "against", "rows", "n", "difference", "low", "high", "p_holm", "wins", "ties", "losses")
SUFFIXES = (".md", ".csv", ".tex", ".html")
SPECIAL = str.maketrans({sign: f"\\{sign}" for sign in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\~{}"})


def write_comparison(path: Path, result: Result, predictions: Predictions, least: int) -> None:
    """predictions: of each system of `result`, in its order: id -> a scored prediction. least: rows of a category that
    is told of.
    """
    rows, lines = list(list_rows(result, least)), list(describe(result, least))
    make = {".md": as_markdown, ".csv": as_csv, ".tex": as_latex}.get(path.suffix)
    write_text(path, make(rows, lines) if make else as_page(result, rows, lines, predictions))


def check_format(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise UserError(f"--output {path}: give a file that ends with {', '.join(SUFFIXES)}")


def list_rows(result: Result, least: int) -> Iterator[list[str]]:
    """Under `COLUMNS`: each pair over all rows, and in each category."""
    for pair in result["pairs"]:
        categories = {name or "(none)": part for name, part in pair["by_category"].items() if part["n"] >= least}
        parts: dict[str, Part] = {"all": pair, **categories}
        for name, part in parts.items():
            numbers = (part["difference"], *part["ci95"], part["p_holm"])
            counts = map(str, (part["wins"], part["ties"], part["losses"]))
            written = (format_number(value, 4) for value in numbers)
            yield [pair["system"], result["against"], name, str(part["n"]), *written, *counts]


def as_markdown(rows: Rows, lines: Sequence[str]) -> str:
    table = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    written = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in table]
    return "\n".join([*lines, "", *written]) + "\n"


def as_csv(rows: Rows, _: object) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    return text.getvalue()


def as_latex(rows: Rows, lines: Sequence[str]) -> str:
    """A `tabular` that needs no package; what was compared is in comments above it."""
    written = [" & ".join(cell.translate(SPECIAL) for cell in row) + r" \\" for row in rows]
    head = " & ".join(name.translate(SPECIAL) for name in COLUMNS) + r" \\ \hline"
    return "\n".join(
        [
            *(f"% {line}" for line in lines),
            r"\begin{tabular}{lllrrrrrrrr}",
            head,
            *written,
            r"\end{tabular}",
            "",
        ]
    )


def describe(result: Result, least: int) -> Iterator[str]:
    yield f"{result['metric']} on {count('row', result['n'])} in {count('group', result['num_groups'])}."
    if result["why"]:
        yield f"{result['why']}."
    for key, values in result["differences"].items():
        yield f"{key}: {', '.join(values)}."
    few = {name for pair in result["pairs"] for name, part in pair["by_category"].items() if part["n"] < least}
    if few:
        yield f"Left out: {len(few)} {'category' if len(few) == 1 else 'categories'} with fewer than {least} rows."
    yield from (pair["note"] for pair in result["pairs"] if pair["note"])
    for pair in result.get("judged", []):
        outcomes = f"{pair['wins']} won, {pair['ties']} tied, {pair['losses']} lost, p {pair['p_holm']:.4f}"
        lines = "; ".join(describe_orders(pair["judge"]))
        yield f"Judge, {pair['system']} against {result['against']}: {outcomes} ({lines})."
        if pair["note"]:
            yield pair["note"]


def as_page(result: Result, pairs: Rows, lines: Sequence[str], predictions: Predictions) -> str:
    """One self-contained HTML file; everything that comes from data is escaped."""
    from jinja2 import Environment, StrictUndefined

    folder = files("revinst.evaluation").joinpath("report_files")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": format_number}
    rows = []
    for example_id, first in predictions[0].items():
        others = [found[example_id] for found in predictions[1:]]
        texts = [
            [(first["prediction"], False)],
            *(mark_changes(first["prediction"], each["prediction"]) for each in others),
        ]
        scores = [each.get(result["metric"]) for each in (first, *others)]
        rows.append({"id": example_id, "reference": first["reference"], "cells": list(zip(texts, scores, strict=True))})
    return environment.from_string(folder.joinpath("compare.html.j2").read_text(encoding="utf-8")).render(
        result=result,
        columns=COLUMNS,
        pairs=pairs,
        lines=lines,
        names=[system["name"] for system in result["systems"]],
        rows=rows,
        style=folder.joinpath("report.css").read_text(encoding="utf-8"),
    )


def mark_changes(before: str, after: str) -> list[tuple[str, bool]]:
    """Stretches of words of `after`, each with whether `before` has them not.

    >>> mark_changes("What is a comet?", "What was a comet?")
    [('What', False), ('was', True), ('a comet?', False)]
    """
    old, new = before.split(), after.split()
    changes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [(" ".join(new[start:stop]), kind != "equal") for kind, _, _, start, stop in changes if stop > start]
