"""A comparison as a file: a table as Markdown, CSV or LaTeX, or a page with the predictions side by side."""

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from revinst.errors import UserError
from revinst.evaluation.comparison import Part, Result
from revinst.evaluation.facts import describe_command, describe_now
from revinst.evaluation.judged import describe_orders
from revinst.evaluation.page import Column, Histogram, Order, RowList, render_page
from revinst.evaluation.report import count, format_number
from revinst.evaluation.statistics import FEWEST
from revinst.runs.files import write_text

Predictions = Sequence[Mapping[str, Mapping[str, Any]]]  # of each system, by id
Rows = Sequence[Sequence[str]]  # cells under COLUMNS
COLUMNS = ("system", "against", "rows", "n", "difference", "low", "high", "p_holm", "wins", "ties", "losses")
TEXT, GAIN = "prediction", "difference"
SUFFIXES = (".md", ".csv", ".tex", ".html")
SPECIAL = str.maketrans({sign: f"\\{sign}" for sign in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\~{}"})


def write_comparison(path: Path, result: Result, predictions: Predictions, least: int, command: str = "") -> None:
    """predictions: of each system of `result`, in its order: id -> a scored prediction. least: rows of a category that
    is told of. command: as it was typed, for the page.
    """
    rows, lines = list(list_rows(result, least)), list(describe(result, least))
    if path.suffix == ".html":
        return write_text(path, as_page(result, rows, lines, predictions, command))
    first = 2 if result["why"] else 1
    lines[first:first] = describe_differences(result)
    write_text(path, {".md": as_markdown, ".csv": as_csv, ".tex": as_latex}[path.suffix](rows, lines))


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


def describe_differences(result: Result) -> list[str]:
    return [f"{key}: {', '.join(values)}." for key, values in result["differences"].items()]


def as_page(result: Result, pairs: Rows, lines: Sequence[str], predictions: Predictions, command: str) -> str:
    """Systems, which are A, B, C ... from then on, tests against A, and the predictions side by side."""
    names = [system["name"] for system in result["systems"]]
    letters = {name: name_place(place) for place, name in enumerate(names)}
    return render_page(
        "compare.html.j2",
        result=result,
        n=result["n"],
        num_groups=result["num_groups"],
        facts={"date": describe_now(), **describe_command(command)},
        letters=letters,
        pairs=[dict(zip(COLUMNS, pair, strict=True)) for pair in pairs],
        lines=lines,
        list=list_side_by_side(result["metric"], names, predictions, {pair[2] for pair in pairs}),
    )


def name_place(place: int) -> str:
    return ascii_uppercase[place] if place < len(ascii_uppercase) else str(place + 1)


def list_side_by_side(
    metric: str, names: Sequence[str], predictions: Predictions, categories: Collection[str]
) -> RowList:
    """names: of the systems. categories: that are told of."""
    letters = list(map(name_place, range(len(names))))
    texts, scores = ([f"{field}: {name}" for name in names] for field in (TEXT, metric))
    rows = []
    for example_id, first in predictions[0].items():
        found = [each[example_id] for each in predictions]
        row = {"id": example_id} | {name: first[name] for name in ("response", "reference") if name in first}
        row |= {"category": first["category"]} if (first.get("category") or "(none)") in categories else {}
        row |= {field: each.get(TEXT) or "" for field, each in zip(texts, found, strict=True)}
        row |= {field: each[metric] for field, each in zip(scores, found, strict=True) if each.get(metric) is not None}
        if len(found) == 2 and all(field in row for field in scores):
            row[GAIN] = found[1][metric] - found[0][metric]
        rows.append(row)
    columns = [Column(name, name) for name in ("response", "reference") if name in rows[0]]
    columns += [Column(letter, field, against=texts[0]) for letter, field in zip(letters, texts, strict=True)]
    shown = dict(zip(scores, letters, strict=True))
    orders = [Order(f"best of {letter}", field, True) for field, letter in shown.items()]
    if len(predictions) == 2:
        shown = {GAIN: "B less A"} | shown
        orders = [Order("most won by B", GAIN, True), Order("most lost by B", GAIN, False), *orders]
    of_gain = Histogram(GAIN, f"{metric} of B less that of A", low=-1.1, high=1.1, bins=11)  # one of them around 0
    return RowList(
        name="comparison",
        rows=rows,
        columns=columns,
        scores=shown,
        orders={str(place): order for place, order in enumerate(orders)},
        histogram=of_gain if len(predictions) == 2 and len(rows) >= FEWEST else None,
        tones=(0.0, 1e-9) if len(predictions) == 2 else None,
    )
