"""The loggers that `trainer.logger` names: Lightning's, with their files in the run's folder, and no end of a run.

What they are called with (W&B's project, MLflow's server, Comet's key ...) their own environment variables say, as
everywhere. The id of the W&B, MLflow and Comet run is in manifest.json, so that whoever comes later goes on in it.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from uuid import uuid4
from zipfile import BadZipFile, ZipFile

from lightning.fabric.loggers.logger import _DummyExperiment
from lightning.pytorch.loggers import CometLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch import Tensor
from torch.nn import Module

from revinst.runs.folder import Run
from revinst.runs.metrics import read_rows

T = TypeVar("T")
PROJECT = "revinst"  # where the logger's own variable names no other
REST_S = 600  # a logger that failed is left alone for so long: what waits for a server that is gone holds up training
ENVIRONMENT = {
    "COMET_DISPLAY_SUMMARY_LEVEL": "0",  # a hundred lines at the end
    "MLFLOW_ALLOW_FILE_STORE": "true",  # mlflow-skinny has no database (3.17)
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # its own are minutes in which every rank waits
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "WANDB_FINISH_TIMEOUT": "600",  # its own: for ever; what was not sent stays for `wandb sync`
}


class Guard(Logger):
    """Goes before a logger's own class, which stays what `isinstance` finds: see `attempt`."""

    own: ClassVar[type[Logger]]

    @property
    def experiment(self) -> object:
        if not hasattr(self.own, "experiment"):
            return None
        return attempt(self, lambda: super(Guard, self).experiment) or _DummyExperiment()  # type: ignore[misc]  # own's

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        attempt(self, partial(super().log_metrics, *args, **kwargs))  # type: ignore[safe-super]

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        attempt(self, partial(super().log_hyperparams, *args, **kwargs))  # type: ignore[safe-super]

    def log_graph(self, model: Module, *args: Tensor | None) -> None:
        attempt(self, partial(super().log_graph, model, *args))

    def save(self) -> None:
        attempt(self, super().save)

    def finalize(self, status: str) -> None:
        attempt(self, partial(super().finalize, status))
        attempt(self, partial(finish, self, status))


def guard(logger: Logger) -> Logger:
    """The same logger; what it raises from now on ends no run."""
    own = type(logger)
    logger.__class__ = type(own.__name__, (Guard, own), {"own": own})
    return logger


def attempt(logger: Logger, work: Callable[[], T]) -> T | None:
    """`work`'s result. What it raises is said once, in one line; the logger then rests, and None is returned."""
    state = vars(logger)
    if time.monotonic() < state.get("rests_until", -math.inf):
        return None
    try:
        return work()
    except Exception as error:  # whatever a client raises for a server, a disk, a process of its own
        if "rests_until" not in state:
            say_failure(type(logger).__name__, error)
        state["rests_until"] = time.monotonic() + REST_S
        return None


def say_failure(name: str, error: Exception) -> None:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    print(f"trainer.logger {name}: {reason}; goes on without it, metrics.csv has every number", file=sys.stderr)


def finish(logger: Logger, status: str) -> None:
    """Ends what Lightning leaves to the end of the process: W&B's upload, Comet's archive."""
    if isinstance(logger, WandbLogger):
        logger.experiment.finish(exit_code=int(status != "success"))
    elif isinstance(logger, CometLogger):
        logger.experiment.end()


def open_loggers(names: Sequence[str], run: Run, config: Mapping[str, object], step: int | None = None) -> list[Logger]:
    """Those of these names, on the first rank alone. One that can't be made is said and left out.

    config: hyperparameters, for those that this run has not logged to yet. step: that training begins at: with 0 it is
    logged anew, otherwise in the W&B, MLflow and Comet runs of before; None: what is logged belongs to no step.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ids: dict[str, str] = {} if step == 0 else dict(run.read_manifest().get("loggers", {}))
    loggers: list[Logger] = []
    for name in names:
        if name == "csv":
            continue  # metrics.csv: every run has it, and Lightning's own would delete it on resuming
        try:
            logger = MAKERS[name](run, ids.get(name), step)
            _ = logger.experiment  # type: ignore[attr-defined]  # made now, so that its id is known
        except Exception as error:
            say_failure(name, error)
            continue
        loggers.append(guard(logger))
        is_new = step == 0 if name == "tensorboard" else name not in ids
        if is_new:
            logger.log_hyperparams(dict(config))
        if logger.version:
            ids[name] = str(logger.version)
    if ids != run.read_manifest().get("loggers", {}):
        run.update_manifest(loggers=ids)
    return loggers


def make_tensorboard(run: Run, _: str | None, step: int | None) -> Logger:
    """purge_step: rows that a resumed run takes again are hidden where they were written by the killed one."""
    return TensorBoardLogger(save_dir=str(run.path), name=run.tensorboard.name, version="", purge_step=step)


def make_wandb(run: Run, known: str | None, step: int | None) -> Logger:
    """W&B writes seconds later: what it lost with a killed process is logged again; offline nobody knows, so all is."""
    folder = run.wandb.absolute()
    folder.mkdir(exist_ok=True)
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        os.environ.setdefault(name, str(folder))
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    logger = WandbLogger(project=project, name=run.path.name, id=known or uuid4().hex, save_dir=folder.parent)
    if known and step:
        last = logger.experiment.summary.get(
            "trainer/global_step", 0
        )  # as its server has it; samples come a step early
        log_again(logger, run, last - 1, step)
    return logger


def make_mlflow(run: Run, known: str | None, step: int | None) -> Logger:
    logger = MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
        run_name=run.path.name,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or run.mlflow.absolute().as_uri(),
        run_id=known,
    )
    if known:
        logger.experiment.update_run(known, status="RUNNING")
    return logger


def make_comet(run: Run, known: str | None, step: int | None) -> Logger:
    """Offline, a killed process leaves an empty archive: the next one then has the whole curve."""
    folder = run.comet.absolute()
    folder.mkdir(exist_ok=True)
    drop_empty_archives(folder)
    logger = CometLogger(
        project=os.environ.get("COMET_PROJECT_NAME", PROJECT),
        experiment_key=known or uuid4().hex,
        mode="get_or_create",
        name=run.path.name,
        # a folder a process: Comet's random names are the same after every seed_everything
        offline_directory=str(folder / f"{datetime.now():%Y%m%d-%H%M%S}"),
    )
    if known and step and "Offline" in type(logger.experiment).__name__:
        log_again(logger, run, 0, step)
    return logger


MAKERS: dict[str, Callable[[Run, str | None, int | None], Logger]] = {
    "tensorboard": make_tensorboard,
    "wandb": make_wandb,
    "mlflow": make_mlflow,
    "comet": make_comet,
}


def log_again(logger: Logger, run: Run, first: int, end: int) -> None:
    """The numbers of steps from `first` to before `end`, out of metrics.csv."""
    for row in read_rows(run.metrics) if run.metrics.is_file() else []:
        if first <= int(row["step"]) < end:
            logger.log_metrics(numbers_of(row), int(row["step"]))


def drop_empty_archives(folder: Path) -> None:
    for path in list(folder.rglob("*.zip")):
        try:
            with ZipFile(path) as archive:
                is_empty = not archive.namelist()
        except BadZipFile:
            is_empty = True
        if is_empty:
            path.unlink()
            path.parent.rmdir()


def numbers_of(row: Mapping[str, str]) -> dict[str, float]:
    """Of a row of metrics.csv: without ids, and what a step did not log."""
    numbers = {}
    for name, value in row.items():
        with suppress(ValueError):
            numbers[name] = float(value)
    return {name: value for name, value in numbers.items() if name != "step"}


def log_table(logger: Logger, rows: Sequence[Mapping[str, str]], step: int) -> None:
    """Samples: a table to W&B and MLflow, a text each to Comet, TensorBoard and what is like it.

    rows: id, what it was made from, reference, prediction of each.
    """
    columns, texts = list(rows[0]), [list(row.values()) for row in rows]
    if isinstance(logger, WandbLogger):
        logger.log_text("samples", columns=columns, data=texts, step=step)
    elif isinstance(logger, MLFlowLogger):
        table = {"step": [step] * len(rows)} | dict(zip(columns, map(list, zip(*texts, strict=True)), strict=True))
        logger.experiment.log_table(logger.run_id, table, "samples.json")  # adds to those of other steps
    elif isinstance(logger, CometLogger):
        for row in rows:
            logger.experiment.log_text(as_text(row), step=step, metadata={"id": row["id"]})
    elif add_text := getattr(getattr(logger, "experiment", None), "add_text", None):
        for row in rows:
            add_text(f"samples/{row['id']}", as_text(row), step)


def as_text(row: Mapping[str, str]) -> str:
    return f"reference: {row['reference']}\n\nprediction: {row['prediction']}"


def log_report(logger: Logger, report: Path, label: str) -> None:
    """An evaluation's page, where the logger takes files."""
    if isinstance(logger, WandbLogger):
        import wandb

        logger.experiment.log({f"{label}/report": wandb.Html(report.read_text(encoding="utf-8"), inject=False)})
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_artifact(logger.run_id, str(report), label)
    elif isinstance(logger, CometLogger):
        logger.experiment.log_asset(str(report), file_name=f"{label}/{report.name}", overwrite=True)
