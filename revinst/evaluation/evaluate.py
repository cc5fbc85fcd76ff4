"""An evaluation, whichever way the run writes: instructions, or responses (`data.template: forward`)."""

from pathlib import Path
from typing import Any

from rich.table import Table

from revinst.evaluation.folders import choose_folder
from revinst.evaluation.forward import evaluate_forward, open_forward
from revinst.evaluation.forward_report import build_forward_table
from revinst.evaluation.report import build_table
from revinst.evaluation.rows import EvaluatedRows
from revinst.evaluation.scoring import score_evaluation
from revinst.evaluation.settings import EvaluationSettings
from revinst.inference.predictor import Predictor


def find_folder(
    predictor: Predictor, asked: EvaluationSettings, name: str | None = None, output: Path | None = None
) -> Path:
    """`output`, or the folder in the run that is named `name` or after what is asked for; see `choose_folder`."""
    run = predictor.trained.run
    key = predictor.key(asked.use_adapter, num_samples=asked.samples)
    label = asked.label(predictor.settings, predictor.rows_hash)
    return choose_folder(key, run.evaluation if run else None, label, name, output)


def evaluate_rows(predictor: Predictor, rows: EvaluatedRows, folder: Path, asked: EvaluationSettings) -> dict[str, Any]:
    """Fills the folder with what is not there yet. Returns scores.json's content, {} on all ranks but the first."""
    predictor.keep_likelihoods(folder)
    if predictor.trained.template.target == "response":
        asked.check_for_responses(predictor.trained.path)
        return evaluate_forward(predictor, rows, folder)
    forward = open_forward(asked.forward, predictor, folder, asked.allow_trained) if asked.forward else None
    return score_evaluation(predictor, rows, folder, asked, forward)


def build_scores_table(scores: dict[str, Any]) -> Table:
    if "tuned" in scores:
        return build_forward_table(scores)
    return build_table(scores, tuned="base" if scores["settings"]["adapter"] is None else "tuned")
