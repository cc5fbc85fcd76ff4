"""The head table in the terminal, and how reports write figures; `report_page.py` writes `report.html`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from revinst.evaluation.baselines import BASELINES, check_baselines, strongest_baseline
from revinst.evaluation.head import choose_head, lead_metric, say_why
from revinst.evaluation.judged import say_people, say_use
from revinst.evaluation.while_training import describe_while_training


def print_scores(scores: Mapping[str, Any], table: Table, report: Path, as_json: bool) -> None:
    """scores.json, or its head table and where the page lies."""
    if as_json:
        print(json.dumps(scores, indent=2, allow_nan=False))
    else:
        Console().print(table)
        print(report)  # rich would break a long path


def build_table(scores: Mapping[str, Any], tuned: str = "tuned") -> Table:
    """Tuned model, its samples and the baselines by head metric, in 80 columns; lines below say what else is known."""
    check_baselines(scores["baselines"], "base" in scores["settings"])
    table = Table(
        title=f"{scores['n']} rows, 0-1; ± reaches the farther end of the 95 % interval",
        caption="\n".join(describe_findings(scores, tuned)),
        caption_justify="left",
    )
    table.add_column("system", no_wrap=True)
    head = choose_head(scores["metrics"], scores["n"])
    for metric in head:
        table.add_column(metric.replace("_", "_\n"), justify="right", no_wrap=True)
    for name in filter(scores["baselines"].__contains__, BASELINES):
        table.add_row(name, *(format_number(scores["baselines"][name][metric]) for metric in head))
    table.add_section()
    table.add_row(tuned, *(format_interval(scores["metrics"][metric]) for metric in head), style="bold")
    for label, use in name_uses(scores).items():
        table.add_row(label, *(format_interval(use[metric]) for metric in head))
    return table


def name_uses(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Each way to use the samples of an example -> its scores; empty for one sample an example."""
    if "samples" not in scores:
        return {}
    found, k = scores["samples"], scores["samples"]["k"]
    names = {"greedy": "greedy", "consensus": f"consensus of {k}", "likelihood": f"by log p of {k}"}
    names |= {"mean": f"mean of {k}", "best_of_k": f"best of {k}"}
    return {label: found[name] for name, label in names.items()}


def describe_findings(scores: Mapping[str, Any], tuned: str) -> Iterator[str]:
    """A line each: the strongest baseline, the loss, and what was asked for beside the head metrics."""
    metrics = scores["metrics"]
    lead = lead_metric(metrics, scores["n"])
    baseline = strongest_baseline(scores["baselines"], lead)
    gain = scores["gains"][baseline][lead]
    yield (f"{tuned} - {baseline}, {lead}: {format_gain(gain)}; detectable {format_number(scores['detectable'][lead])}")
    if why := say_why(metrics, scores["n"]):
        yield why
    if scores.get("heldout_loss") is not None:
        yield f"loss on these rows: {scores['heldout_loss']:.3f} nats a token"
    if "while_training" in scores:
        yield from describe_while_training(scores["while_training"], choose_head(metrics, scores["n"]))
    if "samples" in scores:
        samples = scores["samples"]
        yield f"consensus - greedy, {lead}: {format_gain(samples['gain'][lead])}"
        yield f"{samples['utility']} among the samples of a row: {format_interval(samples['self_agreement'])}"
    if "semantic" in metrics:
        best = strongest_baseline(scores["baselines"], "semantic")
        value = format_number(scores["baselines"][best].get("semantic"))
        yield f"semantic: {format_interval(metrics['semantic'])}; strongest baseline: {best}, {value}"
    if "judge" in scores:
        yield f"judge, 1-5: {format_interval(metrics['judge'])}; {scores['judge']['model']}"
        yield f"  {say_use(scores['judge'])}"
        if people := scores["judge"].get("people"):
            yield f"  {say_people(people)}"
    if "gain_prediction" in metrics:
        names = ("prediction", "reference", "shuffled")
        parts = (f"{name} {format_interval(metrics[f'gain_{name}'], digits=1)}" for name in names)
        yield f"round trip, nats: {', '.join(parts)}"


def count(noun: str, number: int, verb: tuple[str, str] = ("", "")) -> str:
    """`1 group`, `3 groups`; verb: for one, and for several: `1 text holds`."""
    return f"{number:,} {noun}{'s' * (number != 1)} {verb[number != 1]}".rstrip()


def format_gain(gain: Mapping[str, Any]) -> str:
    low, high = (format_number(bound) for bound in gain["ci95"])
    return f"{format_number(gain['difference'])} [{low}, {high}], p {gain['p']:.4f}"


def format_number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def format_interval(value: Mapping[str, Any], digits: int = 3) -> str:
    half_width = format_half_width(value, digits)
    return format_number(value["mean"], digits) + (f"±{half_width}" if half_width else "")


def format_half_width(value: Mapping[str, Any], digits: int = 3) -> str:
    """From the mean to the farther end of its interval; "" without one."""
    mean, (low, high) = value["mean"], value["ci95"]
    return "" if mean is None or low is None else f"{max(mean - low, high - mean):.{digits}f}"
