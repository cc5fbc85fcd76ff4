"""Which folder an evaluation lies in. Two that can differ in a prediction never share one.

RUN/evaluation/                     the defaults on the held-out examples
RUN/evaluation/LABEL/               other options, e.g. `val`, `limit-8`, `base-limit-8`
RUN/evaluation/LABEL-1f2e3d4c/      where another evaluation lies there already; one of an adapter that the run had
                                    before it was trained on gives way and moves here itself
any of these/base/                  what the untouched base wrote for the same examples
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from revinst.errors import UserError
from revinst.inference.key import PredictionKey, changed_settings, hash_json
from revinst.inference.predictions import FILE, PredictionFile
from revinst.runs.files import hash_adapter, read_json
from revinst.runs.folder import Run

DEFAULTS = "defaults"  # the label of the defaults where they need one

SETTINGS = "predictions.settings.json"


def choose_folder(
    key: PredictionKey, root: Path | None, label: str = "", name: str | None = None, output: Path | None = None
) -> Path:
    """`output`, or the folder under `root` that is named by `name`, by default by the label and what lies there.

    root: None: an adapter folder has no place of its own. label: of `EvaluationSettings`.
    Raises UserError where `name` or `output` names a folder that holds another evaluation.
    """
    if output is not None:
        return check_same_evaluation(output, key)
    if root is None:
        raise UserError("an adapter folder is no run: give --output")
    if name is None:
        return place_evaluation(key, root, label)
    if Path(name).name != name or name in ("", ".", "..", "base"):
        raise UserError(f"--name {name!r}: give a plain folder name other than base")
    return check_same_evaluation(root / name, key)


def place_evaluation(key: PredictionKey, root: Path, label: str = "") -> Path:
    """The folder under `root`; one that holds another evaluation is left to it, unless that is outdated."""
    folder, settings = root / label, key.to_json()
    file = PredictionFile(folder / FILE, settings)
    if not file.find_difference():
        return folder
    known = file.read_settings()
    if known and key.model.adapter and changed_settings(known, settings) == ["adapter"]:
        move_aside(folder, root / name_folder(known, label))
        return folder
    return root / name_folder(settings, label)


def check_same_evaluation(folder: Path, key: PredictionKey) -> Path:
    """The folder. Raises UserError where it holds another evaluation."""
    if difference := PredictionFile(folder / FILE, key.to_json()).find_difference():
        raise UserError(f"{folder / FILE}: {difference}; choose another --name or --output, or move it away")
    return folder


def name_folder(settings: dict[str, Any], label: str) -> str:
    """`LABEL-1f2e3d4c`: 8 hex digits tell the evaluations of one label apart."""
    return f"{label or DEFAULTS}-{hash_settings(settings)}"


def hash_settings(settings: dict[str, Any]) -> str:
    return hash_json(settings, 8, sort_keys=True)


@dataclass(frozen=True, slots=True)
class FoundEvaluation:
    """An evaluation that was found in a run. label: as in `choose_folder`; settings: of its predictions, as JSON."""

    folder: Path
    label: str
    settings: dict[str, Any]

    @property
    def file(self) -> Path:
        return self.folder / FILE


def list_evaluations(run: Run) -> list[FoundEvaluation]:
    """All in the run's folder, the defaults first."""
    folders = [run.evaluation, *sorted(run.evaluation.glob("*/"))]
    found = [read_evaluation(folder, run) for folder in folders if (folder / FILE).is_file()]
    return sorted(found, key=lambda each: each.label)


def find_evaluations(run: Run) -> list[FoundEvaluation]:
    """Those of a run's adapter; neither of its base alone nor of an adapter that it had before."""
    found = list_evaluations(run)
    if not found or not (run.adapter / "adapter_model.safetensors").is_file():
        return [each for each in found if each.settings.get("adapter", "") is not None]
    adapter = hash_adapter(run.adapter)[:16]
    return [each for each in found if each.settings.get("adapter", adapter) == adapter]


def read_evaluation(folder: Path, run: Run) -> FoundEvaluation:
    beside = folder / SETTINGS
    settings = read_json(beside) if beside.is_file() else {}
    if not isinstance(settings, dict):
        raise UserError(f"{beside}: no settings (a mapping is expected); move the folder away")
    label = "" if folder == run.evaluation else folder.name.removesuffix(f"-{hash_settings(settings)}")
    return FoundEvaluation(folder, "" if label == DEFAULTS else label, settings)


def move_aside(folder: Path, to: Path) -> None:
    """Moves what belongs to an evaluation. The base's texts are as good for the next one, so they are copied."""
    to.mkdir(parents=True, exist_ok=True)
    shutil.copy2(folder / SETTINGS, to)  # first, and taken away last: without it the others are nobody's
    if (folder / "base").is_dir():
        shutil.copytree(folder / "base", to / "base", dirs_exist_ok=True)
    for name in (FILE, "scores.json", "report.html", "samples.jsonl"):
        if (folder / name).exists():
            os.replace(folder / name, to / name)
    (folder / SETTINGS).unlink()
