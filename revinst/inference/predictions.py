"""Prediction records: one JSON object a line, appended as rows finish; a killed job goes on at the next row."""

import json
import math
import os
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from glob import escape
from pathlib import Path
from typing import Any, Generic, TypeVar

from revinst.errors import UserError
from revinst.inference.key import changed_settings
from revinst.inference.samples import Sample, Written
from revinst.runs.files import naming, read_json, write_json, write_text

V = TypeVar("V")
Row = dict[str, Any]  # a line of a prediction file


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model wrote for one text. `reference` is empty where no true instruction is known.

    log_p: of the prediction and what ended it, in nats, under the model that wrote it; None in files of before.
    context: what the model read beside the text, if anything. instruction: what a run that writes responses read, whose
    `response` is empty.
    """

    id: str
    category: str
    response: str
    reference: str
    prediction: str
    num_tokens: int
    stopped: str  # eos | header | length
    log_p: float | None = None
    context: str = ""
    instruction: str = ""

    def to_row(self) -> Row:
        """As a line holds it: what was read under its own name alone."""
        left_out = "response" if self.instruction else "instruction"
        return {name: value for name, value in asdict(self).items() if name != left_out}


class PredictionFile:
    """A JSONL file of predictions made with one set of settings, kept beside it in `NAME.settings.json`.

    A file made with other settings is never mixed with, and one that has no settings beside it is somebody else's.
    Of several ranks each one appends to a part of its own; the next `open` puts them together.
    """

    def __init__(self, path: Path, settings: dict[str, Any], rank: int = 0, world_size: int = 1):
        self.path, self.settings = path, json.loads(json.dumps(settings))
        part = path.with_name(f"{path.stem}.part-{rank}-of-{world_size}.jsonl")
        self.appends_to = part if world_size > 1 else path
        self.settings_path = path.with_name(path.name.removesuffix(".jsonl") + ".settings.json")

    def open(self) -> dict[str, Prediction]:
        """Predictions already there, by id, in file order; a line torn by a kill is cut off.

        Raises UserError for a file that was made with other settings.
        """
        if changed := self.find_difference():
            raise UserError(f"{self.path}: {changed}; choose another output or move it away")
        if not self.has_rows or self.read_settings() != self.settings:
            write_json(self.settings_path, self.settings)
        predictions = read_whole_lines(self.path) if self.path.is_file() else {}
        for part in self.parts:
            for example_id, prediction in read_whole_lines(part).items():
                if predictions.get(example_id) != prediction:  # a part is newer: the row's text may have changed
                    append_line(self.path, prediction.to_row())
                    predictions[example_id] = prediction
            part.unlink()
        return predictions

    def find_difference(self) -> str:
        """Why the rows that are there must not be mixed with; "" where they may be, or there are none."""
        if not self.has_rows:
            return ""
        known = self.read_settings()
        if known is None:
            return "this file was not made by revinst"
        changed = changed_settings(known, self.settings)
        return f"made with another {', '.join(changed)}" if changed else ""

    def read_settings(self) -> Any:
        """Those of the file that is there; None where none are beside it."""
        return read_json(self.settings_path) if self.settings_path.is_file() else None

    @property
    def has_rows(self) -> bool:
        return self.path.exists() or bool(self.parts)

    @property
    def parts(self) -> list[Path]:
        """What ranks have written and `open` has not taken in yet."""
        return sorted(self.path.parent.glob(f"{self.path.stem}.part-*.jsonl"))

    def append(self, prediction: Prediction) -> None:
        append_line(self.appends_to, prediction.to_row())

    def replace(self, rows: list[Row]) -> None:
        """Writes the final file: every row once, in the given order, with its scores."""
        write_text(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        for part in self.parts:
            part.unlink()


class KeyedFile(ABC, Generic[V]):
    """Values, one a line, each under a key of all that it depends on; kept, so that none is made twice.

    Of several ranks each one appends to a part of its own; the next `read`, while no rank writes, puts them together.
    """

    def __init__(self, path: Path, rank: int = 0, world_size: int = 1):
        self.path = path
        part = path.with_name(f"{path.stem}.part-{rank}-of-{world_size}.jsonl")
        self.appends_to = part if world_size > 1 else path

    @abstractmethod
    def load(self, value: object) -> V:
        """From JSON. Raises ValueError or TypeError for what is none."""

    @abstractmethod
    def dump(self, value: V) -> object:
        """As JSON."""

    def read(self) -> dict[str, V]:
        """By key."""
        found: dict[str, V] = {}
        parts = sorted(self.path.parent.glob(f"{escape(self.path.stem)}.part-*.jsonl"))
        for path in ([self.path] if self.path.is_file() else []) + parts:
            for line in whole_lines(path, cut=True):
                try:
                    key, value = json.loads(line)
                    loaded = self.load(value)
                    if not isinstance(key, str):
                        raise TypeError("the key is no text")
                except (ValueError, TypeError, OverflowError, RecursionError) as error:
                    raise UserError(f"{path}: a line is not of this file ({error}); delete the file") from None
                if path != self.path and key not in found:
                    append_line(self.path, json.loads(line))
                found[key] = loaded
        for part in parts:
            part.unlink()
        return found

    def append(self, key: str, value: V) -> None:
        append_line(self.appends_to, [key, self.dump(value)])


class LikelihoodFile(KeyedFile[float]):
    """log p of texts; NaN where one does not fit."""

    def load(self, value: object) -> float:
        return math.nan if value is None else load_number(value)

    def dump(self, value: float) -> float | None:
        return None if math.isnan(value) else value


class SampleFile(KeyedFile[Written]):
    """All that was written for each text."""

    def load(self, value: object) -> Written:
        greedy, samples = load_list(value)
        return Written(list(map(load_sample, samples)), None if greedy is None else load_sample(greedy))

    def dump(self, value: Written) -> object:
        return [value.greedy, value.samples]


def load_sample(value: object) -> Sample:
    text, log_p, num_tokens, stopped = load_list(value)
    if not isinstance(text, str) or not isinstance(stopped, str) or type(num_tokens) is not int:
        raise TypeError("no sample")
    return Sample(text, load_number(log_p), num_tokens, stopped)


def load_list(value: object) -> list:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


def load_number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError("no number")
    return float(value)


def append_line(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("ab") as file:
        file.write((json.dumps(content, ensure_ascii=False) + "\n").encode())


def whole_lines(path: Path, cut: bool) -> list[bytes]:
    """All lines but one torn by a kill, which `cut` cuts off the file."""
    lines = path.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    if cut:
        os.truncate(path, sum(map(len, whole)))
    return whole


def read_whole_lines(path: Path) -> dict[str, Prediction]:
    """By id, in file order; a line torn by a kill is cut off the file."""
    predictions = (parse_prediction(line, path) for line in whole_lines(path, cut=True))
    return {prediction.id: prediction for prediction in predictions}


def parse_prediction(line: bytes, path: Path) -> Prediction:
    """One line of a prediction file; scores in it are left aside."""
    try:
        row = {"response": ""} | json.loads(line)
        row["prediction"] = row.get("redacted", row["prediction"])  # as it was written
        prediction = Prediction(**{name: row[name] for name in Prediction.__dataclass_fields__ if name in row})
        check_types(prediction)
        return prediction
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: a line is no prediction ({error}); delete the file to start again") from None


def check_types(prediction: Prediction) -> None:
    """Raises TypeError for a value that no Prediction of ours has."""
    for name, value in asdict(prediction).items():
        kinds = {"num_tokens": int, "log_p": int | float | None}.get(name, str)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise TypeError(f"{name} can't be {type(value).__name__}")


def read_rows(path: Path) -> dict[str, Row]:
    """All rows of a prediction file by id, with everything that they hold; {} where it is not there."""
    rows = map(json.loads, whole_lines(path, cut=False)) if path.is_file() else ()
    return {row["id"]: row for row in rows}


FILE = "predictions.jsonl"
