"""The run folder: where each file of a run lies, and its manifest."""

import json
import os
from pathlib import Path
from typing import Any

from revinst.errors import UserError


class Run:
    """Paths of one run, `runs/NAME`. Creates nothing until something is written."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.manifest = self.path / "manifest.json"
        self.split = self.path / "split.json"
        self.discarded = self.path / "discarded.jsonl"
        self.metrics = self.path / "metrics.csv"
        self.checkpoints = self.path / "checkpoints"
        self.adapter = self.path / "adapter"
        self.evaluation = self.path / "evaluation"

    def read_manifest(self) -> dict[str, Any]:
        return read_json(self.manifest) if self.manifest.is_file() else {}

    @property
    def is_completed(self) -> bool:
        return bool(self.read_manifest().get("completed"))

    def update_manifest(self, **values: Any) -> None:
        write_json(self.manifest, self.read_manifest() | values)


def open_run(path: str | Path, unfinished: bool = False) -> Run:
    """A run that trained to its end. Raises UserError for a folder that is no run, or an unfinished one."""
    run = Run(path)
    if not run.path.is_dir():
        raise UserError(f"{path}: no such run folder")
    if not run.config.is_file() or not run.manifest.is_file():
        raise UserError(f"{path}: not a run folder (config.yaml or manifest.json is missing)")
    if not run.is_completed and not unfinished:
        raise UserError(f"{path}: this run has not finished; go on with `revinst fit`, or pass --unfinished")
    if not (run.adapter / "adapter_config.json").is_file():
        raise UserError(f"{path}: no adapter in it yet; go on with `revinst fit`")
    return run


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read as JSON ({error})") from None


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replaces a file as a whole: a reader sees the old or the new content, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
