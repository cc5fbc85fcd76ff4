"""`revinst fit`: trains into `runs/NAME`, or goes on where it stopped."""

import logging
import os
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import MixedPrecision

from revinst.commands.config import RevinstCLI, config_difference, precision_name
from revinst.commands.trained import quiet_libraries
from revinst.errors import UserError
from revinst.model.base import check_folder
from revinst.model.hardware import choose_precision, device_of
from revinst.model.memory import read_shape
from revinst.progress import on_terminal
from revinst.ranks import is_first_process
from revinst.run import Run
from revinst.training.callbacks import ProgressLines, RunFolder, Samples, Throughput
from revinst.training.checkpoint import Checkpoints
from revinst.training.checkpoint_files import TO_GO_ON, newest_checkpoint, read_checkpoint, read_mark, why_unusable
from revinst.training.fingerprint import fingerprints, hash_difference
from revinst.training.loggers import MetricsFile
from revinst.training.stop import DeadRanks, Stopped, StopSignals


def main(args: list[str]) -> int:
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # the data module keeps its place
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # what is logged is summed over ranks already
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6.6 under PyTorch 2.13
    for name in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.pytorch.{name}").addFilter(is_news)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it looks for kernels that a CPU does without
    if not is_first_process():
        quiet_libraries()
    if not args:
        raise UserError("give a config: revinst fit --config configs/quickstart.yaml")
    with StopSignals() as signals:
        try:
            return train(RevinstCLI(args), signals)
        except Stopped as stopped:
            if is_first_process():
                print(f"stopped by {stopped.name} before training; nothing is lost")
            return stopped.exit_code


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line of Lightning's is neither an advertisement nor a word on an argument that we leave as it is."""
    return not any(word in record.getMessage() for word in ("litlogger", "`weights_only` was not set"))


def train(cli: RevinstCLI, signals: StopSignals) -> int:
    """Everything a user can get wrong is looked for before the first write; every rank decides by the same files."""
    run = Run(Path(cli.config.runs_dir) / cli.config.run_name)
    if is_finished(run, cli):
        if is_first_process():
            print(f"{run.path}: this run has finished; nothing to do (another --run_name starts a new one)")
        return 0
    check_folder(cli.model.base)
    trainer = build_trainer(run, cli, signals)
    with run.lock() if trainer.is_global_zero else nullcontext():
        cli.datamodule.setup()
        read_shape(cli.model.base, cli.model.lora)  # refuses an adapter that the base has no layers for
        check_against_data(trainer, cli)
        trainer.ckpt_path = find_checkpoint(run, cli)
        torch.set_float32_matmul_precision("high")  # tf32 for what is left in fp32, as in the recipe
        try:
            trainer.fit(cli.model, datamodule=cli.datamodule, weights_only=True)
        except Stopped as stopped:
            if trainer.is_global_zero:
                print(f"stopped by {stopped.name} at step {cli.model.step}; {where_to_go_on(run)}")
            # Lightning kills the first rank when one that it launched ends with another code than 0.
            return stopped.exit_code if trainer.is_global_zero else 0
    if trainer.is_global_zero:
        print(f"{run.path}: {cli.model.step} steps done; adapter in {run.adapter}")
    return 0


def where_to_go_on(run: Run) -> str:
    checkpoint = newest_checkpoint(run.checkpoints)
    if checkpoint is None:
        return "there is no checkpoint yet; the same command starts again"
    return f"the same command goes on from {checkpoint}"


def is_finished(run: Run, cli: RevinstCLI) -> bool:
    """Whether there is nothing left to do. Refuses a finished run's name for another config."""
    if cli.config.resume != "auto" or not run.is_completed or not run.adapter.is_dir():
        return False
    if not cli.config.resume_force:
        check_config(run, run.config.read_text(encoding="utf-8"), cli, run.read_manifest().get("world_size"))
    manifest, trainer = run.read_manifest(), cli.config.trainer
    # not steps times epochs: a run that changed its number of ranks has steps of two sizes
    done = ((trainer.max_epochs, manifest.get("epochs", 0)), (trainer.max_steps, manifest.get("steps", 0)))
    return any(length and 0 < length <= reached for length, reached in done)


def find_checkpoint(run: Run, cli: RevinstCLI) -> Path | None:
    """The checkpoint to go on from, or None to start. Refuses what would mix two runs."""
    resume = cli.config.resume
    if resume == "never":
        if run.exists:
            raise UserError(f"{run.path} exists and --resume is never; choose another --run_name")
        return None
    if resume == "auto":
        checkpoint = newest_checkpoint(run.checkpoints)
    else:
        checkpoint = Path(resume)
        if not checkpoint.is_file():
            raise UserError(f"--resume {resume}: neither auto, never nor a checkpoint file")
        if read_mark(checkpoint) and (reason := why_unusable(checkpoint)):
            raise UserError(f"--resume {resume}: {reason}; give another checkpoint")
    if checkpoint is not None:
        started = read_checkpoint(checkpoint, TO_GO_ON)["run"]
        if not cli.config.resume_force:
            check_config(run, started["config"], cli, started.get("world_size"))
            check_hashes(run, started["hashes"], cli)
    return checkpoint


def check_config(run: Run, started_with: str, cli: RevinstCLI, world_size: int | None) -> None:
    """world_size: that it was started with."""
    if difference := config_difference(started_with, cli.as_yaml, world_size):
        raise UserError(
            f"{run.path} was started with another config ({'; '.join(difference)}); "
            "choose another --run_name, or --resume_force true"
        )


def check_hashes(run: Run, started_with: dict[str, str], cli: RevinstCLI) -> None:
    """The config can be the same while the files that it names are not."""
    if difference := hash_difference(started_with, fingerprints(cli.datamodule, cli.model.base)):
        raise UserError(
            f"{run.path} was started on other inputs ({'; '.join(difference)}); "
            "restore them, choose another --run_name, or --resume_force true"
        )


def check_against_data(trainer: L.Trainer, cli: RevinstCLI) -> None:
    """What only the data can tell to be wrong: samples without room, a validation interval that never comes."""
    samples = cli.config.samples
    if samples.every_steps:
        Samples(samples.every_steps, samples.count).encode(cli.datamodule)
    data = cli.datamodule
    data.check_ranks(trainer.world_size)
    steps, interval = data.steps_per_epoch, trainer.val_check_interval
    if trainer.check_val_every_n_epoch and isinstance(interval, int) and interval > steps and data.val_rows:
        raise UserError(
            f"trainer.val_check_interval {interval}: an epoch has {steps} steps; lower it, or set "
            "trainer.check_val_every_n_epoch: null to count over epochs"
        )


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
