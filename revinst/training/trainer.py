"""The Trainer of a config, with our loggers, callbacks and checkpoint writer."""

import logging
import os
import re
import sys
from typing import Any, TypeVar

import lightning as L
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.plugins.environments import SLURMEnvironment

from revinst.config.loggers import named_loggers
from revinst.config.parser import build_parser, dump_config
from revinst.config.settings import Config
from revinst.config.trainer_flags import precision_name
from revinst.errors import UserError
from revinst.launch.heartbeat import Heartbeat
from revinst.launch.ranks import check_processes
from revinst.model.hardware import choose_precision, device_of
from revinst.progress import on_terminal
from revinst.runs.folder import Run
from revinst.runs.loggers import guard
from revinst.runs.metrics import MetricsFile
from revinst.training.checkpoint import Checkpoints
from revinst.training.lines import ProgressLines, StepsBar
from revinst.training.loggers import StartLoggers
from revinst.training.mending import Beats
from revinst.training.run_folder import RunFolder
from revinst.training.samples import Samples
from revinst.training.stop import StopSignals
from revinst.training.throughput import Throughput
from revinst.training.val_generation import ValGeneration, check_monitors, validation_interval

T = TypeVar("T")
# Of a logger or callback whose package is not installed, among the types that jsonargparse tried in vain.
CLASS_PROBLEM = re.compile(r"Problem with given class_path '(.*?)':\s*(.*)")


def build_trainer(run: Run, config: Config, signals: StopSignals) -> L.Trainer:
    """The Trainer of the config with our loggers, callbacks and checkpoint writer; writes nothing."""
    options, text = make_classes(config.trainer) | validation_interval(config), dump_config(config)
    check_monitors(as_list(options.get("callbacks")), config)
    metrics = MetricsFile(run.metrics)
    of_a_class = [guard(each) for each in as_list(options["logger"]) if isinstance(each, Logger)]
    checkpoints = Checkpoints(run, config.checkpoint, text, metrics, signals)
    heart = Heartbeat(config.launch.hang_s)
    ours = [
        Beats(heart),
        RunFolder(run, text, metrics, config.checkpoint),
        StartLoggers(named_loggers(config.trainer.logger), run, text),
        Throughput(),
        Samples(config.samples, heart),
        *[ValGeneration(config.val_generation, signals, heart)] * bool(config.val_generation.every_steps),
        signals,  # before what validates on resuming: Lightning's own handlers would answer in a collective
        checkpoints,  # after what logs: a checkpoint vouches for the rows before it
    ]
    if options.get("enable_progress_bar") is not False:
        has_bar = on_terminal() and sys.stdout.isatty()  # Lightning's is drawn on stdout
        ours += [StepsBar(leave=True)] * has_bar + [ProgressLines(beside_bar=has_bar)]
        options["enable_progress_bar"] = has_bar
    plugins = [*as_list(options.get("plugins")), checkpoints.io]
    precision: str | None = precision_name(options.get("precision") or choose_precision(options["accelerator"]))
    if precision == "16-mixed" and device_of(options["accelerator"]).type == "cpu":
        plugins.append(MixedPrecision("16-mixed", "cpu"))  # Lightning would take bf16 there
        precision = None
    options |= {
        "logger": [*of_a_class, metrics],
        "callbacks": [*as_list(options.get("callbacks")), *ours],
        "plugins": plugins,
        "precision": precision,
        "default_root_dir": str(run.path),
    }
    trainer = make_trainer(options)
    check_launcher(trainer.num_devices, trainer.num_nodes)
    return trainer


def count_ranks_to_start(config: Config) -> int:
    """The processes on this machine, where no launcher has started them; 0 where this one does."""
    if "WORLD_SIZE" in os.environ:
        return 0
    names = ("accelerator", "devices", "num_nodes", "strategy")  # no logger is made twice
    options = make_classes(Namespace(**{name: config.trainer[name] for name in names}))
    logging.disable(logging.INFO)  # its lines on the hardware, which the run's own Trainer says
    trainer = make_trainer(options | {"logger": False, "enable_progress_bar": False})
    logging.disable(logging.NOTSET)
    if trainer.num_devices * trainer.num_nodes == 1:
        return min(config.launch.max_restarts, 1)
    environment = getattr(trainer.strategy, "cluster_environment", None)
    one_task = isinstance(environment, SLURMEnvironment) and os.environ.get("SLURM_STEP_NUM_TASKS", "1") == "1"
    is_launched = environment is None or (environment.creates_processes_externally and not one_task)
    if trainer.num_devices == 1 or is_launched:
        return 0
    if trainer.num_nodes > 1:
        raise UserError(f"trainer.num_nodes {trainer.num_nodes}: start it on each machine with torchrun, or with srun")
    if isinstance(trainer.accelerator, CPUAccelerator):
        check_processes("trainer.devices", trainer.num_devices)
    return trainer.num_devices


def make_trainer(options: dict[str, Any]) -> L.Trainer:
    if "GROUP_WORLD_SIZE" in os.environ:  # torchrun's machines: with `--nnodes 1:4` they may become fewer or more
        options |= {"num_nodes": int(os.environ["GROUP_WORLD_SIZE"])}
    try:
        return L.Trainer(**options)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())[:300]}") from error


def make_classes(trainer: Namespace) -> dict[str, Any]:
    """The Trainer's options, with its loggers, callbacks and the like made of their class_path."""
    parser, made = build_parser(L.Trainer), dict[str, object]()
    for key, value in vars(trainer).items():  # each by itself: what is wrong with a value does not name its key
        try:
            one = Namespace(trainer=Namespace(**{key: value}))
            made |= dict(parser.instantiate_classes(one).trainer)
        except ValueError as error:
            if problem := CLASS_PROBLEM.search(str(error)):
                raise UserError("{}: {}".format(*problem.groups())) from error
            raise UserError(f"trainer.{key}: {' '.join(str(error).split())[:300]}") from error
    return made


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


def as_list(given: list[T] | T | None) -> list[T]:
    """Lightning takes one of something for a list of one."""
    return given if isinstance(given, list) else [] if given is None else [given]
