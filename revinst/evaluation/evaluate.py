"""An evaluation, whichever way the run writes: instructions, or responses (`data.template: forward`)."""

from pathlib import Path
from typing import Any

from rich.table import Table

from revinst.evaluation.forward import evaluate_forward, open_forward
from revinst.evaluation.forward_report import build_forward_table
from revinst.evaluation.measures import Measures
from revinst.evaluation.report import build_table
from revinst.evaluation.rows import EvaluatedRows
from revinst.evaluation.scoring import score_evaluation
from revinst.inference.predictor import Predictor


def evaluate_rows(
    predictor: Predictor, rows: EvaluatedRows, folder: Path, measures: Measures, allow_trained: bool = False
) -> dict[str, Any]:
    """Fills the folder with what is not there yet. Returns scores.json's content, {} on all ranks but the first.

    allow_trained: the run of `measures.forward` may have been trained on some of the rows.
    """
    predictor.keep_likelihoods(folder)
    if predictor.trained.template.target == "response":
        measures.check_for_responses(predictor.trained.path)
        return evaluate_forward(predictor, rows, folder)
    forward = open_forward(measures.forward, predictor, folder, allow_trained) if measures.forward else None
    return score_evaluation(predictor, rows, folder, measures, forward)


def build_scores_table(scores: dict[str, Any]) -> Table:
    if "tuned" in scores:
        return build_forward_table(scores)
    return build_table(scores, tuned="base" if scores["settings"]["adapter"] is None else "tuned")
