"""metrics.csv: every logged number, one row a step; survives a resume. And what other loggers take."""

import csv
import io
import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from revinst.errors import UserError
from revinst.run import write_text
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

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
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

    def add(self, step: int, values: Mapping[str, Any]) -> None:
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


def log_samples(loggers: Sequence[Any], samples: Sequence[dict[str, str]], step: int) -> None:
    """Texts to those loggers that take any: a table to W&B, a text each to TensorBoard and what is like it.

    samples: id, reference, prediction and what it was made from, of each.
    """
    if not samples:
        return
    columns, data = list(samples[0]), [list(row.values()) for row in samples]
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_text("samples", columns=columns, data=data, step=step)
        elif add_text := getattr(getattr(logger, "experiment", None), "add_text", None):
            for row in samples:
                text = f"reference: {row['reference']}\n\nprediction: {row['prediction']}"
                add_text(f"samples/{row['id']}", text, step)


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
