"""What is asked of an evaluation."""

from dataclasses import dataclass, replace
from pathlib import Path

from revinst.config.words import PICKS, UTILITIES
from revinst.errors import UserError
from revinst.evaluation.judge_settings import JudgeSettings
from revinst.inference.engine.settings import GenerationSettings, own_precision
from revinst.inference.picks import ONE, PickSettings


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """Which examples, which model, and what is measured beside one prediction an example.

    source: a file's in place of the run's `part`, heldout or val. limit: the first so many. allow_trained: also
    those that the run, or that of `forward`, was trained on. step: the run as it was after that step. use_adapter:
    False: the untouched base. picks: how many are written for each, and which of these counts. likelihood: also log p
    of the predictions, and how much they help to write the text. forward: a run that writes responses, for that; by
    default the base does. semantic: a sentence encoder, its folder or hub id. secrets: files of private strings that a
    run which writes responses is asked for. judge: rates the predictions. command: as it was typed, for the report.
    """

    source: str | None = None
    part: str = "heldout"
    limit: int | None = None
    allow_trained: bool = False
    step: int | None = None
    use_adapter: bool = True
    picks: PickSettings = ONE
    likelihood: bool = False
    forward: str | None = None
    semantic: str | None = None
    secrets: tuple[Path, ...] = ()
    judge: JudgeSettings | None = None
    command: str = ""

    @property
    def with_likelihoods(self) -> bool:
        return self.likelihood or self.forward is not None

    def of_one(self, generation: GenerationSettings) -> GenerationSettings:
        """How the base's one prediction of each is decoded: greedily, where ours is picked among samples."""
        return generation if self.picks.samples == 1 else replace(generation, temperature=0.0)

    def check(self) -> None:
        """Raises UserError for what means nothing."""
        if self.source and self.part != "heldout":
            raise UserError("--part: for the run's own rows; --input names others")
        if self.semantic:
            from revinst.evaluation.embedding import check_encoder

            check_encoder(self.semantic)

    def check_for_responses(self, run: Path) -> None:
        """Raises UserError for what means nothing for a run that writes responses."""
        wrong = {
            "--samples": self.picks.samples > 1,
            "--adapter": not self.use_adapter,
            "--likelihood": self.likelihood,
        }
        wrong |= {"--forward": bool(self.forward), "--semantic": bool(self.semantic), "--judge": bool(self.judge)}
        if given := ", ".join(name for name, is_given in wrong.items() if is_given):
            raise UserError(f"{run} writes responses: {given} can't be used with it")

    def label(self, generation: GenerationSettings, rows_hash: str, new_tokens: int) -> str:
        """What is not the default, for people: `val-step-000200-max-60`. rows_hash: of the examples of `source`.
        new_tokens: the run's default.
        """
        parts = [] if self.use_adapter else ["base"]
        parts += [f"{Path(self.source).stem[:40]}-{rows_hash[:8]}"] if self.source else []
        parts += [self.part] if self.part != "heldout" else []
        parts += [f"step-{self.step:06d}"] if self.step is not None else []
        parts += [f"limit-{self.limit}"] if self.limit else []
        if generation.temperature:
            parts += [f"t{generation.temperature:g}-p{generation.top_p:g}-s{generation.seed}"]
            parts += [f"top-{generation.top_k}"] if generation.top_k else []
        if self.picks.samples > 1:
            parts += [f"k{self.picks.samples}"]
            parts += [str(word) for word in self.picks.describe().values() if word in (*PICKS[1:], *UTILITIES[1:])]
        parts += [f"max-{generation.max_new_tokens}"] if generation.max_new_tokens != new_tokens else []
        parts += [generation.precision] if generation.precision != own_precision() else []
        parts += [generation.engine] if generation.engine == "hf" else []
        return "-".join(parts)
