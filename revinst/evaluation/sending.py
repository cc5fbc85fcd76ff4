"""An evaluation sent to the loggers of its run: `evaluate --log`."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from revinst.config.file import read_yaml
from revinst.config.loggers import check_loggers, named_loggers, public_config
from revinst.config.parser import dump_config
from revinst.config.settings import Config
from revinst.config.stored import read_run_config
from revinst.errors import UserError
from revinst.runs.folder import Run


def check_sending(path: str) -> None:
    """Raises UserError where there is no logger to send to, before anything heavy is imported."""
    run = Run(path)
    if not run.config.is_file():
        raise UserError(f"--log: {path} is no run, so nothing says where to")
    value = read_run_config(run.config).trainer.logger
    if not loggers_to_send_to(value):
        raise UserError(f"--log: {path} was trained with trainer.logger {value}; it names none that takes scores")
    check_loggers(value)


def loggers_to_send_to(value: object) -> list[str]:
    return [name for name in named_loggers(value) if name != "csv"]


def send_evaluation(run: Run, config: Config, folder: Path, scores: Mapping[str, Any]) -> None:
    """Scores as numbers of the run's last step, and report.html, into the W&B, MLflow or Comet run of the training."""
    from revinst.runs.loggers import attempt, log_report, open_loggers

    label = "heldout" if folder == run.evaluation else folder.name
    numbers = {f"{label}/{name}": mean for name, mean in mean_scores(scores.get("tuned", scores)["metrics"]).items()}
    names = loggers_to_send_to(config.trainer.logger)
    for logger in open_loggers(names, run, public_config(read_yaml(dump_config(config)))):
        logger.log_metrics(numbers, run.read_manifest().get("steps"))
        attempt(logger, partial(log_report, logger, folder / "report.html", label))
        logger.finalize("success")


def mean_scores(metrics: Mapping[str, Mapping[str, float | None] | None]) -> dict[str, float]:
    """Without metrics that can't read the rows' script."""
    return {name: mean for name, each in metrics.items() if each and (mean := each["mean"]) is not None}
