"""An evaluation, whichever way the run writes: instructions, or responses (`data.template: forward`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from revinst.errors import UserError
from revinst.evaluation.forward import evaluate_forward, open_forward
from revinst.evaluation.forward_report import build_forward_table
from revinst.evaluation.report import build_table
from revinst.evaluation.rows import EvaluatedRows
from revinst.evaluation.scoring import score_evaluation
from revinst.inference.predictor import Predictor


@dataclass(frozen=True, slots=True)
class Measures:
    """What is evaluated beside one prediction a row of the tuned model.

    use_adapter: False: the untouched base in its place. samples: predictions of a row. likelihood: also log p of the
    predictions, and how much they help to write the text. forward: a run that writes responses, for that; None: the
    base. semantic: the folder of a sentence encoder.
    """

    use_adapter: bool = True
    samples: int = 1
    likelihood: bool = False
    forward: str | None = None
    semantic: Path | None = None

    def check(self, temperature: float) -> None:
        if self.samples < 1:
            raise UserError(f"--samples {self.samples}: must be at least 1")
        if self.samples > 1 and not temperature:
            raise UserError(f"--samples {self.samples}: greedy samples are all the same; give --temperature, e.g. 0.8")
        if self.semantic:
            from revinst.evaluation.embedding import check_encoder

            check_encoder(self.semantic)

    def check_for_responses(self, run: Path) -> None:
        """Raises UserError for what means nothing for a run that writes responses."""
        wrong = {"--samples": self.samples > 1, "--adapter": not self.use_adapter, "--likelihood": self.likelihood}
        wrong |= {"--forward": bool(self.forward), "--semantic": bool(self.semantic)}
        if given := ", ".join(name for name, is_given in wrong.items() if is_given):
            raise UserError(f"{run} writes responses: {given} can't be used with it")


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
    return score_evaluation(
        predictor,
        rows,
        folder,
        measures.use_adapter,
        num_samples=measures.samples,
        likelihood=measures.likelihood or forward is not None,
        forward=forward,
        encoder=measures.semantic,
    )


def build_scores_table(scores: dict[str, Any]) -> Table:
    if "tuned" in scores:
        return build_forward_table(scores)
    return build_table(scores, tuned="base" if scores["settings"]["adapter"] is None else "tuned")
