"""Which folder an evaluation lies in. Two that can differ in a prediction never share one.

RUN/evaluation/                     the defaults on the held-out rows
RUN/evaluation/LABEL/               other options, e.g. `val`, `limit-8`, `base-limit-8`
RUN/evaluation/LABEL-1f2e3d4c/      where another evaluation lies there already; one of an adapter that the run had
                                    before it was trained on makes room and moves here itself
any of these/base/                  what the untouched base wrote for the same rows
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from revinst.errors import UserError
from revinst.inference.predictions import FILE, PredictionFile, changed_settings
from revinst.runs.files import hash_file, read_json
from revinst.runs.folder import Run

DEFAULTS = "defaults"  # the label of the defaults where they need one

SETTINGS = "predictions.settings.json"


@dataclass(frozen=True, slots=True)
class EvaluationKey:
    """All that the predictions of an evaluation depend on.

    settings: JSON; kept beside the predictions. label: for people, the options that are not the defaults.
    """

    settings: dict[str, Any]
    label: str = ""

    def place(self, root: Path) -> Path:
        """The folder under `root`; one that holds another evaluation is left to it, unless that is outdated."""
        folder = root / self.label
        file = PredictionFile(folder / FILE, self.settings)
        if not file.find_difference():
            return folder
        known = file.read_settings()
        if known and self.settings["adapter"] and changed_settings(known, self.settings) == ["adapter"]:
            set_aside(folder, root / self.name_of(known))
            return folder
        return root / self.name_of(self.settings)

    def name_of(self, settings: dict[str, Any]) -> str:
        return f"{self.label or DEFAULTS}-{hash_settings(settings)}"

    def check(self, folder: Path) -> Path:
        """The folder. Raises UserError where it holds another evaluation."""
        if difference := PredictionFile(folder / FILE, self.settings).find_difference():
            raise UserError(f"{folder / FILE}: {difference}; choose another --name or --output, or move it away")
        return folder


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation that was found in a run. label: as in `EvaluationKey`."""

    folder: Path
    label: str
    settings: dict[str, Any]

    @property
    def file(self) -> Path:
        return self.folder / FILE


def list_evaluations(run: Run) -> list[Evaluated]:
    """All in the run's folder, the defaults first."""
    folders = [run.evaluation, *sorted(run.evaluation.glob("*/"))]
    found = [read_evaluation(folder, run) for folder in folders if (folder / FILE).is_file()]
    return sorted(found, key=lambda each: each.label)


def find_evaluations(run: Run) -> list[Evaluated]:
    """Those of a run's adapter; neither of its base alone nor of an adapter that it had before."""
    found = list_evaluations(run)
    weights = run.adapter / "adapter_model.safetensors"
    if not found or not weights.is_file():
        return [each for each in found if each.settings.get("adapter", "") is not None]
    adapter = hash_file(weights)[:16]
    return [each for each in found if each.settings.get("adapter", adapter) == adapter]


def read_evaluation(folder: Path, run: Run) -> Evaluated:
    beside = folder / SETTINGS
    settings = read_json(beside) if beside.is_file() else {}
    if not isinstance(settings, dict):
        raise UserError(f"{beside}: no settings (a mapping is expected); move the folder away")
    label = "" if folder == run.evaluation else folder.name.removesuffix(f"-{hash_settings(settings)}")
    return Evaluated(folder, "" if label == DEFAULTS else label, settings)


def set_aside(folder: Path, to: Path) -> None:
    """Moves what belongs to an evaluation. The base's texts are as good for the next one, so they are copied."""
    to.mkdir(parents=True, exist_ok=True)
    shutil.copy2(folder / SETTINGS, to)  # first, and taken away last: without it the others are nobody's
    if (folder / "base").is_dir():
        shutil.copytree(folder / "base", to / "base", dirs_exist_ok=True)
    for name in (FILE, "scores.json", "report.html", "samples"):
        if (folder / name).exists():
            os.replace(folder / name, to / name)
    (folder / SETTINGS).unlink()


def hash_settings(settings: dict[str, Any]) -> str:
    """8 hex digits, which tell the evaluations of one label apart."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
