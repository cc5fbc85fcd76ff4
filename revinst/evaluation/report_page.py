"""`report.html` of predicted instructions: what is scored, beside the baselines, and every row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from revinst.evaluation.baselines import BASELINES, check_baselines, strongest_baseline
from revinst.evaluation.charts import build_bars, build_curves
from revinst.evaluation.facts import Facts
from revinst.evaluation.head import choose_head, lead_metric, say_why
from revinst.evaluation.page import Column, Histogram, Order, RowList, render_page
from revinst.evaluation.report import name_uses
from revinst.evaluation.statistics import FEWEST
from revinst.evaluation.while_training import describe_while_training
from revinst.runs.files import write_text

REPORTED_FIELDS = (
    "id", "category", "response", "reference", "prediction", "nearest_train_instruction", "max_similarity",
    "rougeL", "rougeL_unicode", "rouge1", "chrf", "copy_rate", "length_ratio", "degenerate", "stopped",
    "logp_reference", "logp_prediction", "gain_prediction", "gain_reference", "gain_shuffled", "semantic", "judge",
    "samples",
)  # fmt: skip
COLUMNS = (
    Column("response", "response", share=2.2),
    Column("reference", "reference", against="prediction", mark="del"),
    Column("prediction", "prediction", against="reference"),
    Column("nearest training row", "nearest_train_instruction", share=1.2),
)
LEAD_NAMES = {"rougeL": "ROUGE-L", "rougeL_unicode": "ROUGE-L unicode"}


def write_report(
    path: Path,
    title: str,
    scores: Mapping[str, Any],
    predictions: Sequence[Mapping[str, Any]],
    *,
    facts: Facts,
    curves: Mapping[str, Sequence[tuple[int, float]]] | None = None,
    tuned: str = "tuned",
) -> None:
    """predictions: with their scores. curves: logged name -> (step, value); all are drawn. tuned: what is scored."""
    check_baselines(scores["baselines"], "base" in scores["settings"])
    metrics = scores["metrics"]
    lead = lead_metric(metrics, scores["n"])
    divisions = {
        "By category": scores["by_category"],
        "By length of the response": scores.get("by_response_length", {}),
        "By similarity to the nearest training row": scores.get("by_similarity", {}),
    }
    head = choose_head(metrics, scores["n"])
    found = scores.get("while_training")
    charts = [build_bars(name, parts, lead) for name, parts in divisions.items()]
    html = render_page(
        "report.html.j2",
        title=title,
        facts=facts,
        n=scores["n"],
        num_groups=scores["num_groups"],
        tuned=tuned,
        scores=scores,
        baselines=[name for name in BASELINES if name in scores["baselines"]],
        head=head,
        lead=lead,
        lead_name=LEAD_NAMES[lead],
        why=say_why(metrics, scores["n"]),
        strongest=strongest_baseline(scores["baselines"], lead),
        uses=name_uses(scores),
        curves=build_curves(curves or {}),
        while_training=list(describe_while_training(found, head)) if found else [],
        charts=[chart for chart in charts if chart.says_something],
        fewest=FEWEST,
        audit=audit_leakage(predictions),
        list=list_predictions(title, predictions, lead),
    )
    write_text(path, html)


def list_predictions(title: str, predictions: Sequence[Mapping[str, Any]], lead: str) -> RowList:
    rows = [pick_reported(each) for each in predictions]
    scores = {lead: "ROUGE-L", "chrf": "chrF", "copy_rate": "copied", "max_similarity": "similar"}
    known = {field for row in rows for field in row}
    orders = {
        "worst": Order("worst first", lead, highest_first=False),
        "best": Order("best first", lead, highest_first=True),
        "copied": Order("most copied", "copy_rate", highest_first=True),
        "similar": Order("most similar to training", "max_similarity", highest_first=True),
    }
    return RowList(
        name=title,
        rows=rows,
        columns=[column for column in COLUMNS if column.field in known or column.field == "prediction"],
        scores={field: label for field, label in scores.items() if field in known or field == lead},
        orders={key: order for key, order in orders.items() if order.field in known},
        histogram=Histogram(lead, LEAD_NAMES[lead]) if len(rows) >= FEWEST else None,
        tones=(0.15, 0.5),
    )


def pick_reported(prediction: Mapping[str, Any]) -> dict[str, object]:
    return {name: prediction[name] for name in REPORTED_FIELDS if prediction.get(name) is not None}


def audit_leakage(predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many examples are how similar to a training one, and the most similar one; `known` is 0 without an audit."""
    similar = [(each["max_similarity"], each["id"]) for each in predictions if each.get("max_similarity") is not None]
    return {
        "known": len(similar),
        "at_least": {edge: sum(value >= edge for value, _ in similar) for edge in (0.3, 0.5, 0.7, 0.9)},
        "highest": max(similar, default=(None, None)),
    }
