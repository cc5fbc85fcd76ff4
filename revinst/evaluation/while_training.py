"""The last scores of a run's `val_generation` beside those of an evaluation, and why they are not the same number."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TypedDict

from revinst.config.settings import ValGenerationSettings
from revinst.config.words import GENERATED_METRICS
from revinst.data.split import read_split
from revinst.evaluation.charts import read_curves
from revinst.evaluation.settings import EvaluationSettings
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.picks import PickSettings, choose_picks
from revinst.runs.folder import adapter_steps

if TYPE_CHECKING:  # it loads PyTorch, which `score` does without
    from revinst.inference.trained import Trained


class WhileTraining(TypedDict):
    """step: of the run's last pass, counted from 1; n: its rows. differs: in what from the evaluation, in words."""

    step: int
    n: int
    means: dict[str, float]
    differs: list[str]


def read_while_training(
    trained: "Trained", ids: Sequence[str], asked: EvaluationSettings, generation: GenerationSettings
) -> WhileTraining | None:
    """None of a run that wrote no texts, and where its base is evaluated. ids: of the evaluated rows."""
    if not (trained.run and trained.config and asked.use_adapter and trained.config.val_generation.every_steps):
        return None
    curves = read_curves(trained.run.metrics)
    last = {metric: curves[f"val/{metric}"][-1] for metric in GENERATED_METRICS if curves.get(f"val/{metric}")}
    if not last:
        return None
    step, settings = max(step for step, _ in last.values()) + 1, trained.config.val_generation
    val = read_split(trained.run.split).val
    written = min(settings.rows, len(val))
    differs = []
    if written < len(val) or set(ids) != set(val):
        differs.append(f"{written} rows of the validation part there, {len(ids)} {name_rows(asked)} here")
    if ([step], asked.step) != (adapter_steps(trained.run.read_manifest()), None):
        differs.append(f"the adapter after step {step} there")
    differs += compare_decoding(choose_decoding(settings, trained.new_tokens), (generation, asked.picks))
    return {"step": step, "n": written, "means": {name: value for name, (_, value) in last.items()}, "differs": differs}


def choose_decoding(settings: ValGenerationSettings, new_tokens: int) -> tuple[GenerationSettings, PickSettings]:
    picks, temperature = choose_picks(settings.samples, None, "rougeL", None, "consensus", "")
    return GenerationSettings(max_new_tokens=new_tokens, temperature=temperature), picks


def compare_decoding(
    there: tuple[GenerationSettings, PickSettings], here: tuple[GenerationSettings, PickSettings]
) -> list[str]:
    """Of each setting that differs, and that the texts of one of them depend on, the values."""
    depends = {name for settings, picks in (there, here) for name in settings.describe() | picks.describe()}
    theirs, ours = (asdict(settings) | asdict(picks) for settings, picks in (there, here))
    differing = [name for name in theirs if name in depends and theirs[name] != ours[name]]
    return [f"{name} {theirs[name]} there, {ours[name]} here" for name in differing]


def name_rows(asked: EvaluationSettings) -> str:
    return "of a file" if asked.source else f"of the {'held-out' if asked.part == 'heldout' else 'validation'} part"


def describe_while_training(found: WhileTraining, metrics: Sequence[str]) -> Iterator[str]:
    """metrics: the head ones of the report. Yields one line, or none where they were not scored."""
    shown = ", ".join(f"val/{name} {found['means'][name]:.3f}" for name in metrics if name in found["means"])
    if shown:
        why = "; ".join(found["differs"]) or "the same rows, decoded in the same way"
        yield f"while training, step {found['step']}: {shown} ({why})"
