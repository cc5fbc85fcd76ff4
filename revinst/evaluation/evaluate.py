"""An evaluation, whichever way the run writes: instructions, or responses (`data.template: forward`)."""

from pathlib import Path
from typing import Any

from rich.table import Table

from revinst.errors import UserError
from revinst.evaluation.examples import EvaluatedExamples
from revinst.evaluation.folders import choose_folder
from revinst.evaluation.report import build_table
from revinst.evaluation.response_report import build_response_table
from revinst.evaluation.response_scores import open_responder, score_responses
from revinst.evaluation.scoring import score_evaluation
from revinst.evaluation.settings import EvaluationSettings
from revinst.inference.predictor import Predictor


def find_folder(
    predictor: Predictor, asked: EvaluationSettings, name: str | None = None, output: Path | None = None
) -> Path:
    """`output`, or the folder in the run that is named `name` or after what is asked for; see `choose_folder`."""
    run = predictor.trained.run
    key = predictor.key(asked.use_adapter, picks=asked.picks)
    label = asked.label(predictor.settings, predictor.rows_hash, predictor.trained.new_tokens)
    return choose_folder(key, run.evaluation if run else None, label, name, output)


def evaluate_examples(
    predictor: Predictor, evaluated: EvaluatedExamples, folder: Path, asked: EvaluationSettings
) -> dict[str, Any]:
    """Fills the folder with what is not there yet. Returns scores.json's content, {} on all ranks but the first."""
    predictor.keep_likelihoods(folder)
    if predictor.trained.template.target == "response":
        asked.check_for_responses(predictor.trained.path)
        return score_responses(predictor, evaluated, folder, asked)
    if asked.secrets:
        raise UserError(f"--secrets: {predictor.trained.path} writes instructions; give a run that writes texts")
    responder = open_responder(asked.forward, predictor, folder, asked.allow_trained) if asked.forward else None
    return score_evaluation(predictor, evaluated, folder, asked, responder)


def build_scores_table(scores: dict[str, Any]) -> Table:
    if "tuned" in scores:
        return build_response_table(scores)
    return build_table(scores, tuned="base" if scores["settings"]["adapter"] is None else "tuned")
