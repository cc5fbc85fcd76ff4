"""metrics.csv: every logged number, one row a step; survives a resume."""

import csv
import io
import math
from argparse import Namespace
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from revinst.errors import UserError
from revinst.runs.files import write_text
from revinst.system import allow_long_csv_fields


class MetricsFile(Logger):
    """Appends to a CSV file. Lightning's CSVLogger would delete the file of a run that goes on."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.is_file():
            self.rows = read_rows(path)

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        """Where Lightning's own files go, as a profiler's."""
        return str(self.path.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: object, **kwargs: object) -> None:
        """config.yaml holds them."""

    def forget_after(self, step: int) -> None:
        """Drops rows of steps that a resumed run will take again."""
        self.rows = [row for row in self.rows if int(row["step"]) < step]

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        step = int(step or 0)
        self.add(step, metrics)

    def value(self, name: str, step: int) -> float | None:
        """A number of a step, or None where it is missing or not finite."""
        found = [float(row[name]) for row in self.rows if int(row["step"]) == step and row.get(name)]
        return found[-1] if found and math.isfinite(found[-1]) else None

    def add(self, step: int, values: Mapping[str, object]) -> None:
        """To the step's row; also what is no number, which Lightning would not log."""
        if self.rows and int(self.rows[-1]["step"]) == step:
            self.rows[-1].update(values)
        else:
            self.rows.append({"step": step, **values})

    @rank_zero_only
    def save(self) -> None:
        if not self.rows:
            return  # nothing was logged: a run that could not start leaves no file
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        # After a failure that is often a full disk, and its own message says more.
        with nullcontext() if status == "success" else suppress(OSError):
            self.save()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of metrics.csv. Raises UserError when somebody's edit has spoilt it."""
    allow_long_csv_fields()  # the ids of a bad step's rows can be many
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            int(row["step"])
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path}: not a metrics file any more ({error}); move it away to go on without it") from None
    return rows
