"""Scores of a file of predictions, of whatever system: `revinst score`. Needs no model and no PyTorch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from revinst.data.example_table import build_examples, load_examples
from revinst.data.examples import Example, build_example, check_columns, check_text, make_unique
from revinst.data.formats import BadRecord, read_file
from revinst.errors import UserError
from revinst.evaluation.examples import EvaluatedExamples, name_groups
from revinst.evaluation.facts import describe_command, describe_now
from revinst.evaluation.judge_settings import JudgeSettings
from revinst.evaluation.judged import Judged, rate_predictions
from revinst.evaluation.report_page import write_report
from revinst.evaluation.sacrebleu_scores import score_corpus
from revinst.evaluation.scores import metric_settings
from revinst.evaluation.summary import summarise_scores
from revinst.evaluation.systems import by_example, label_examples, score_texts, write_predictions
from revinst.inference.key import hash_json
from revinst.inference.predictions import FILE, PredictionFile
from revinst.progress import Stage, track
from revinst.runs.files import write_json

OWN = "predictions"  # what tables call the system of the file
# A file's field -> the example's, which it is checked as: what was asked for is the reference.
FIELDS = {"response": "response", "reference": "instruction", "context": "context", "category": "category", "id": "id"}


@dataclass(frozen=True, slots=True)
class PredictedRows:
    """examples: the reference of each is its instruction. predictions: one an example, "" where nothing was written."""

    examples: Sequence[Example]
    predictions: list[str]

    @property
    def hash(self) -> str:
        return hash_json([[each.id, each.instruction, each.response] for each in self.examples] + self.predictions)


def read_columns(text: str) -> dict[str, str]:
    """`"{reference: gold}"` -> `{"reference": "gold"}`. Raises UserError for what is no such mapping or no field."""
    try:
        columns = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        columns = None
    if not isinstance(columns, dict) or not all(isinstance(name, str) for name in columns.values()):
        raise UserError(f"--columns {text}: give {{FIELD: NAME, ...}}, e.g. '{{reference: gold, prediction: output}}'")
    if unknown := set(columns) - {*FIELDS, "prediction"}:
        raise UserError(f"--columns: unknown field {min(unknown)!r}; choose from {', '.join((*FIELDS, 'prediction'))}")
    return columns


def read_predicted(path: Path, columns: Mapping[str, str]) -> PredictedRows:
    """columns: `response`, `reference`, `prediction`, `id`, `category`, `context` -> the file's own name for it.

    Raises UserError naming file and line.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    names = check_columns({field: columns.get(name, name) for name, field in FIELDS.items()})
    repeats: Counter[str] = Counter()
    examples, predictions = [], []
    for where, record in read_file(path):
        try:
            if isinstance(record, BadRecord):
                raise record
            example = build_example(record, names)
            predictions.append(read_prediction(record, columns.get("prediction", "prediction")))
        except BadRecord as reason:
            raise UserError(f"{where}: {str(reason).partition('; ')[0]}; see --columns") from None
        if example.id in repeats and isinstance(record, dict) and record.get(names["id"]) is not None:
            raise UserError(f"{where}: a second row with the id {example.id}")
        examples.append(replace(example, id=make_unique(example.id, repeats)))
    if not examples:
        raise UserError(f"{path}: no rows in it")
    return PredictedRows(build_examples(examples), predictions)


def read_prediction(record: object, column: str) -> str:
    if not isinstance(record, dict) or column not in record:
        raise BadRecord(f"no column {column!r}; name the file's own with --columns '{{prediction: NAME}}'")
    value = record[column]
    if value is not None and not isinstance(value, str):
        raise BadRecord(f"{column!r} must be text, is {type(value).__name__}")
    return check_text((value or "").strip(), column)


def score_file(
    path: Path,
    folder: Path,
    columns: Mapping[str, str],
    train: str | None = None,
    judge: JudgeSettings | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Writes predictions.jsonl, scores.json and report.html into the folder; returns the content of scores.json.

    train: rows that the baselines come from; by default each half of the rows takes them from the other half.
    judge: rates the predictions, too. command: as it was typed, for the report.

    Raises UserError where the folder holds the scores of something else.
    """
    rows = read_predicted(path, columns)
    known = load_examples(train)[0] if train else None
    evaluated = EvaluatedExamples(rows.examples, name_groups(rows.examples), known)
    settings = {"source": path.name, "rows": rows.hash, "train": train}
    file = PredictionFile(folder / FILE, settings)
    if difference := file.find_difference():
        raise UserError(f"{file.path}: {difference}; choose another --output or move it away")
    texts = {OWN: rows.predictions} | evaluated.build_baselines()
    systems = {
        name: score_texts(found, rows.examples) for name, found in track(texts.items(), "scores", "systems", brief=True)
    }
    own, nearest = systems.pop(OWN), evaluated.find_nearest()
    judged = None
    if judge:
        own["judge"], judged = rate_predictions(judge, folder, Judged.of(evaluated), rows.predictions)
    references = [example.instruction for example in rows.examples]
    floors = {"floors": {"from": "--train" if train else "the other half of the rows"}}
    with Stage("confidence intervals", brief=True):
        described = settings | metric_settings([], references) | floors
        scores = summarise_scores(own, label_examples(evaluated, nearest), systems, described)
    scores["corpus"] = score_corpus(rows.predictions, references)
    scores |= {"judge": judged} if judged else {}
    write_json(file.settings_path, settings)
    made = [
        {"id": each.id, "category": each.category, "response": each.response, "reference": each.instruction}
        | {"prediction": prediction}
        for each, prediction in zip(rows.examples, rows.predictions, strict=True)
    ]
    extras = [
        {"group": group} | audit | values
        for group, audit, values in zip(evaluated.groups, nearest, by_example(own), strict=True)
    ]
    scored = write_predictions(folder, settings, made, extras)
    write_json(folder / "scores.json", scores)
    facts = {"date": describe_now(), "rows scored": str(path), "baselines from": train or "the other half of the rows"}
    facts |= describe_command(command)
    write_report(folder / "report.html", path.name, scores, scored, facts=facts, tuned=OWN)
    return scores
