"""What is asked of an evaluation."""

from dataclasses import dataclass
from pathlib import Path

from revinst.errors import UserError


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

    @property
    def with_likelihoods(self) -> bool:
        return self.likelihood or self.forward is not None

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
