"""Which predictions.jsonl each thing that `revinst compare` is given stands for, and what is in it."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from revinst.errors import UserError
from revinst.evaluation.folders import FoundEvaluation, find_evaluations, list_evaluations
from revinst.inference.predictions import FILE
from revinst.runs.folder import Run

TEXTS = ("id", "reference", "category", "group")  # of a prediction's fields those that it is matched and grouped by


def split_seeds(text: str) -> list[Path]:
    return [Path(part) for part in ([text] if Path(text).exists() else text.split(","))]


def name_seeds(paths: Sequence[Path]) -> str:
    """
    >>> name_seeds([Path("runs/a-42"), Path("runs/a-43")])
    'runs/a-{42,43}'
    >>> name_seeds([Path("one"), Path("another")])
    'one,another'
    """
    names = list(map(str, paths))
    begin = os.path.commonprefix(names).rstrip("0123456789")  # noqa: RUF071  (not whole folders)
    found = [re.fullmatch(r"(\d+)(.*)", name[len(begin) :]) for name in names]
    numbers, ends = [each[1] for each in found if each], {each[2] for each in found if each}
    if 1 < len(numbers) == len(names) and len(ends) == 1:
        return f"{begin}{{{','.join(numbers)}}}{ends.pop()}"
    return ",".join(names)


def find_files(texts: Sequence[str]) -> dict[Path, Path]:
    """The predictions.jsonl that each path of these systems stands for; for run folders see `choose_evaluations`."""
    paths = list(dict.fromkeys(chain.from_iterable(map(split_seeds, texts))))
    files = {path: file for path in paths for file in (path / FILE, path) if file.is_file()}
    if runs := {path: find_evaluations_of(path) for path in paths if path not in files}:
        files |= choose_evaluations(runs, next((set(read_scored_predictions(file)) for file in files.values()), None))
    return files


def find_evaluations_of(path: Path) -> list[FoundEvaluation]:
    """Raises UserError where there is none of the run's adapter, naming what there is."""
    run = Run(path)
    if not (found := find_evaluations(run)):
        if others := ", ".join(str(each.folder) for each in list_evaluations(run)):
            raise UserError(f"{path}: its evaluations are of its base or of another adapter; name one of {others}")
        raise UserError(f"{path}: no {FILE} there or in its evaluation folder; run `revinst evaluate` first")
    return found


def choose_evaluations(runs: Mapping[Path, Sequence[FoundEvaluation]], ids: set[str] | None = None) -> dict[Path, Path]:
    """The file of each run: of the default evaluation where all have one, else of the one with options that all have.

    ids: of the predictions that these are compared with. Raises UserError naming what there is to choose from.
    """
    fitting = {path: [each for each in found if ids is None or has_ids(each.file, ids)] for path, found in runs.items()}
    # where none fits, `check_same_examples` will name ids
    candidates = {path: fitting[path] or list(found) for path, found in runs.items()}
    labels = set.intersection(*({each.label for each in found} for found in candidates.values()))
    label = "" if "" in labels else labels.pop() if len(labels) == 1 else None
    chosen = {path: [each.file for each in found if each.label == label] for path, found in candidates.items()}
    if any(len(files) != 1 for files in chosen.values()):
        chosen = match_rows(candidates) or chosen
    if any(len(files) != 1 for files in chosen.values()):
        there = "; ".join(f"{path} has {', '.join(str(e.folder) for e in found)}" for path, found in runs.items())
        raise UserError(f"which evaluations to compare is not clear: {there}; name a folder for each run")
    return {path: file for path, (file,) in chosen.items()}


def match_rows(candidates: Mapping[Path, Sequence[FoundEvaluation]]) -> dict[Path, list[Path]]:
    """The evaluations of the same rows, where there is but one set of rows that all have; {} where there are more."""
    by_rows = {path: group_by_rows(found) for path, found in candidates.items()}
    shared = set.intersection(*(set(found) for found in by_rows.values()))
    return {path: found[next(iter(shared))] for path, found in by_rows.items()} if len(shared) == 1 else {}


def group_by_rows(found: Sequence[FoundEvaluation]) -> dict[frozenset[str], list[Path]]:
    files: dict[frozenset[str], list[Path]] = {}
    for each in found:
        with suppress(UserError):  # one that was killed
            files.setdefault(frozenset(read_scored_predictions(each.file)), []).append(each.file)
    return files


def list_to_choose_from(path: Path) -> NoReturn:
    """Raises UserError with the evaluations that a run has."""
    found = list_evaluations(Run(path)) if path.is_dir() else []
    there = f"; {path} has {', '.join(str(each.folder) for each in found)}" if found else ""
    raise UserError(f"give two or more to compare, or one over several seeds (A1,A2,A3){there}")


def has_ids(file: Path, ids: set[str]) -> bool:
    try:
        return read_scored_predictions(file).keys() == ids
    except UserError:  # one that was killed
        return False


def read_scored_predictions(path: Path) -> dict[str, dict[str, Any]]:
    predictions: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            prediction = json.loads(line)
            example_id, _ = prediction["id"], prediction["reference"]
            for name in TEXTS:
                if not isinstance(prediction.get(name, ""), str):
                    raise TypeError(f"{name} must be text")
            json.dumps(prediction, ensure_ascii=False).encode()  # no lone surrogate, which no page could hold
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path}:{number}: no prediction row ({error})") from None
        if example_id in predictions:
            raise UserError(f"{path}:{number}: a second row with the id {example_id}")
        predictions[example_id] = prediction
    if not predictions:
        raise UserError(f"{path}: no rows in it")
    return predictions
