"""The Trainer of a config, with our loggers, callbacks and checkpoint writer."""

import os
import sys
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import MixedPrecision

from revinst.config.parser import RevinstCLI, precision_name
from revinst.errors import UserError
from revinst.model.hardware import choose_precision, device_of
from revinst.progress import on_terminal
from revinst.runs.folder import Run
from revinst.runs.metrics import MetricsFile
from revinst.training.checkpoint import Checkpoints
from revinst.training.lines import ProgressLines
from revinst.training.run_folder import RunFolder
from revinst.training.samples import Samples
from revinst.training.stop import DeadRanks, StopSignals
from revinst.training.throughput import Throughput


def build_trainer(run: Run, cli: RevinstCLI, signals: StopSignals) -> L.Trainer:
    """The Trainer of the config with our loggers, callbacks and checkpoint writer; writes nothing."""
    options = dict(cli.config_init.trainer)
    metrics = MetricsFile(run.metrics)
    loggers: list[Any] = [metrics]
    if options["logger"] in (None, True):
        loggers = [TensorBoardLogger(save_dir=str(run.path), name="tensorboard", version=""), metrics]
    elif options["logger"]:
        loggers = [*as_list(options["logger"]), metrics]
    checkpoints = Checkpoints(run, cli.config_init.checkpoint, cli.as_yaml, metrics, signals)
    ours = [
        DeadRanks(),
        RunFolder(run, cli.as_yaml, metrics),
        Throughput(),
        Samples(cli.config.samples.every_steps, cli.config.samples.count),
        signals,  # before what validates on resuming: Lightning's own handlers would answer in a collective
        checkpoints,  # after what logs: a checkpoint vouches for the rows before it
    ]
    if options.get("enable_progress_bar") is not False:
        has_bar = on_terminal() and sys.stdout.isatty()  # Lightning's is drawn on stdout
        ours += [RichProgressBar(leave=True)] * has_bar + [ProgressLines(beside_bar=has_bar)]
        options["enable_progress_bar"] = has_bar
    plugins = [*as_list(options.get("plugins")), checkpoints.io]
    precision: str | None = precision_name(options.get("precision") or choose_precision(options["accelerator"]))
    if precision == "16-mixed" and device_of(options["accelerator"]).type == "cpu":
        plugins.append(MixedPrecision("16-mixed", "cpu"))  # Lightning would take bf16 there
        precision = None
    options |= {
        "logger": loggers,
        "callbacks": [*as_list(options.get("callbacks")), *ours],
        "plugins": plugins,
        "precision": precision,
        "default_root_dir": str(run.path),
    }
    try:
        trainer = L.Trainer(**options)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())[:300]}") from error
    check_launcher(trainer.num_devices, trainer.num_nodes)
    return trainer


def check_launcher(devices: int, nodes: int) -> None:
    """Raises UserError where torchrun or srun started other processes than the config is for."""
    started = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_WORLD_SIZE" in os.environ else 1
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if "LOCAL_WORLD_SIZE" not in os.environ and (tasks := int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))) > 1:
        started, local = tasks, tasks // int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))
    if started > 1 and (started, local) != (devices * nodes, devices):
        raise UserError(
            f"{started} processes were started, {local} on each machine, and the config is for {devices * nodes}: give "
            f"--trainer.devices {local} --trainer.num_nodes {started // local}"
        )


def as_list(given: Any) -> list[Any]:
    """Lightning takes one of something for a list of one."""
    return given if isinstance(given, list) else [] if given is None else [given]
