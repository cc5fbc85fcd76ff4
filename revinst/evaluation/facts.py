"""What a report says at its top: when, of which model and rows, by which command and versions."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from revinst.data.example_table import list_sources
from revinst.evaluation.settings import EvaluationSettings
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.picks import TAKEN, PickSettings
from revinst.runs.folder import describe_final
from revinst.runs.versions import package_versions

if TYPE_CHECKING:  # they load PyTorch, which `score` and `compare` do without
    from revinst.inference.predictor import Predictor
    from revinst.inference.trained import Trained

Facts = Mapping[str, str]  # label -> text, in the order of the page; what is not known is left out


def describe_evaluation(predictor: "Predictor", asked: EvaluationSettings) -> Facts:
    trained = predictor.trained
    adapter = "none: the untouched base" if not asked.use_adapter else str(trained.path)
    if asked.use_adapter and asked.step is not None:
        adapter += f", as it was after step {asked.step}"
    return {
        "date": describe_now(),
        "base": f"{trained.base}, {describe_quantization(trained)}",
        "adapter": adapter,
        **describe_training(trained),
        "rows scored": describe_rows(asked),
        "settings": describe_decoding(predictor.settings, asked.picks),
        **describe_command(asked.command),
    }


def describe_quantization(trained: "Trained") -> str:
    return "not quantised" if trained.loads_as == "none" else f"in {trained.loads_as}"


def describe_training(trained: "Trained") -> Facts:
    """Of the run's manifest; nothing of an adapter folder, which has none. What an older version did not keep is left
    out: a report is not lost for that.
    """
    manifest = trained.run.read_manifest() if trained.run else {}
    data, facts = manifest.get("data", {}), {}
    if source := data.get("source"):
        parts = {"train": "for training", "val": "for validation", "heldout": "held out"}
        counts = [f"{data[part]:,} rows {use}" for part, use in parts.items() if part in data]
        named = [name if weight == 1 else f"{name} (weight {weight:g})" for name, weight in list_sources(source)]
        facts["data"] = "; ".join([", ".join(named), *counts])
    if manifest:
        texts = {"steps": "{:,} steps", "epochs": "{:.3g} epochs", "seed": "seed {}", "started": "started {:.10}"}
        known = [text.format(manifest[name]) for name, text in texts.items() if manifest.get(name) is not None]
        known += filter(None, [describe_final(manifest)])
        facts["training"] = ", ".join(known if manifest.get("completed") else ["not finished", *known])
    return facts


def describe_rows(asked: EvaluationSettings) -> str:
    parts = {"heldout": "the run's held-out rows", "val": "the run's validation rows"}
    rows = asked.source or parts[asked.part]
    if asked.limit is None:
        return rows
    return f"the first of {rows}" if asked.limit == 1 else f"the first {asked.limit:,} of {rows}"


def describe_decoding(generation: GenerationSettings, picks: PickSettings) -> str:
    at = f"at temperature {generation.temperature:g}, seed {generation.seed}" if generation.temperature else "greedy"
    many = f"{picks.samples} samples a row {at}, {TAKEN[picks.pick]} is taken" if picks.samples > 1 else at
    return f"{many}; at most {generation.max_new_tokens} tokens, in {generation.precision}"


def describe_command(command: str) -> Facts:
    """command: as it was typed; "" where it came from Python."""
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    return {**({"command": command} if command else {}), "versions": versions}


def describe_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
