"""In what compared evaluations differ, by what lies beside their predictions: what was trained, and how it wrote."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from revinst.config.keys import flatten
from revinst.evaluation.folders import SETTINGS
from revinst.runs.files import read_json
from revinst.runs.folder import Run

# What says nothing of a model: names, places, what is kept and logged, and hashes of what other lines say.
NOT_TOLD = re.compile(
    r"(run_name|runs_dir|resume.*|checkpoint\..*|samples\..*|launch\..*|trainer\.(logger|log_|enable_|default_root).*|"
    r"base|base_files|tokenizer|lora(\..*)?|rows|chat|template|model\.kernels)"
)
OF_MANIFEST = {"hardware.dtype": "computed in", "hardware.quantization": "quantised as", "hashes.data": "rows (hash)"}


def find_differences(files: Sequence[Path]) -> dict[str, list[str]]:
    """Key -> its value for each prediction file, "-" where nothing says it; only keys whose values differ."""
    facts = [read_facts(file) for file in files]
    keys = dict.fromkeys(key for each in facts for key in each)
    found = {key: [each.get(key, "-") for each in facts] for key in keys}
    return {key: values for key, values in found.items() if len(set(values)) > 1}


def read_facts(file: Path) -> dict[str, str]:
    """Of a predictions.jsonl: its run's config and manifest, and how it was written; what is not there is left out."""
    facts: dict[str, object] = {}
    if run := find_run_of(file):
        facts |= flatten(yaml.safe_load(run.config.read_text(encoding="utf-8")) or {})
        manifest = flatten(run.read_manifest())
        facts |= {name: manifest[key] for key, name in OF_MANIFEST.items() if key in manifest}
    settings = file.with_name(SETTINGS)
    if settings.is_file() and isinstance(content := read_json(settings), dict):
        facts |= {key: value for key, value in flatten(content).items() if f"data.{key}" not in facts}
        if "adapter" in content:
            facts["adapter"] = "none" if content["adapter"] is None else "trained"  # not its hash
    return {key: str(value) for key, value in facts.items() if not NOT_TOLD.fullmatch(key)}


def find_run_of(file: Path) -> Run | None:
    """RUN of RUN/evaluation/predictions.jsonl or RUN/evaluation/LABEL/predictions.jsonl."""
    runs = (Run(folder.parent) for folder in file.absolute().parents[:3] if folder.name == "evaluation")
    return next((run for run in runs if run.config.is_file() and run.manifest.is_file()), None)
