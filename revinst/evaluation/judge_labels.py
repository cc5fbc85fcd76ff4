"""What people decided of the same rows, and how far a judge agrees with them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from revinst.data.formats import BadRecord, read_file
from revinst.errors import UserError
from revinst.evaluation.statistics import bootstrap_interval, number_groups
from revinst.evaluation.summary import none_if_nan


class People(TypedDict):
    """Agreement on the n rows that both decided. accuracy: the share of equal decisions; kappa: Cohen's, beyond what
    chance would give; weighted_kappa: with squared distances, for ratings alone. None where one of them always says
    the same.
    """

    n: int
    accuracy: float
    ci95: list[float | None]
    kappa: float | None
    weighted_kappa: float | None


def read_labels(path: Path, allowed: range) -> dict[str, int]:
    """`id` and `label` of each row. Raises UserError naming file and line."""
    labels: dict[str, int] = {}
    for where, record in read_file(path.expanduser()):
        if isinstance(record, BadRecord) or not isinstance(record, dict) or not {"id", "label"} <= record.keys():
            raise UserError(f"{where}: a label has the columns id and label")
        value = str(record["label"]).strip()
        if value not in map(str, allowed):
            raise UserError(f"{where}: label {value!r}: give {allowed[0]} to {allowed[-1]}")
        if str(record["id"]) in labels:
            raise UserError(f"{where}: a second label of {record['id']}")
        labels[str(record["id"])] = int(value)
    return labels


def agree_with_people(
    path: Path, answers: Mapping[str, int], groups: Mapping[str, str], allowed: range, ordered: bool
) -> People:
    """answers: of the judge, by id; groups: of all of these. ordered: the numbers are grades."""
    labels = read_labels(path, allowed)
    if not (ids := [each for each in answers if each in labels]):
        raise UserError(f"--labels {path}: none of its {len(labels)} ids is one of the judged rows")
    ours, theirs = (np.array([found[each] for each in ids]) for found in (answers, labels))
    equal = (ours == theirs).astype(np.float64)
    interval = bootstrap_interval(equal, number_groups([groups[each] for each in ids]))
    return {
        "n": len(ids),
        "accuracy": float(equal.mean()),
        "ci95": [none_if_nan(bound) for bound in interval],
        "kappa": cohens_kappa(ours, theirs),
        "weighted_kappa": cohens_kappa(ours, theirs, squared=True) if ordered else None,
    }


def cohens_kappa(a: Sequence[int] | np.ndarray, b: Sequence[int] | np.ndarray, squared: bool = False) -> float | None:
    """1 - observed / expected disagreement (Cohen 1960, 1968); None where nothing but one answer is expected.

    >>> cohens_kappa([1, 1, 2, 2], [1, 1, 2, 1])
    0.5
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    power = 2 if squared else 0

    def disagreement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(x == y, 0.0, np.abs(x - y) ** power)

    expected = disagreement(first[:, None], second[None, :]).mean()
    return float(1 - disagreement(first, second).mean() / expected) if expected else None
