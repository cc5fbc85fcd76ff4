"""`revinst fit`: trains into `runs/NAME`, or goes on where it stopped."""

import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from revinst.commands.config import RevinstCLI, config_difference
from revinst.errors import UserError
from revinst.run import Run
from revinst.training.callbacks import RunFolder, Samples, Throughput
from revinst.training.checkpoint import AtomicCheckpointIO, Checkpoints, newest_checkpoint
from revinst.training.loggers import MetricsFile


def main(args: list[str]) -> int:
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    if not args:
        raise UserError("give a config: revinst fit --config configs/quickstart.yaml")
    cli = RevinstCLI(args)
    run = Run(Path(cli.config.runs_dir) / cli.config.run_name)
    if run.is_completed and cli.config.resume == "auto" and not wants_longer(run, cli):
        print(f"{run.path}: this run has finished; nothing to do (another --run_name starts a new one)")
        return 0
    checkpoint = find_checkpoint(run, cli)
    torch.set_float32_matmul_precision("high")  # tf32 for what is left in fp32, as in the recipe
    trainer = build_trainer(run, cli)
    try:
        trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint)
    except SIGTERMException:
        print(f"stopped by SIGTERM at step {cli.model.step}; the same command goes on from the last checkpoint")
        return 143
    if trainer.interrupted:
        print(f"stopped at step {cli.model.step}; the same command goes on from the last checkpoint")
        return 130
    if trainer.is_global_zero:
        run.update_manifest(completed=True)
        print(f"{run.path}: {cli.model.step} steps done; adapter in {run.adapter}")
    return 0


def wants_longer(run: Run, cli: RevinstCLI) -> bool:
    """A finished run whose length was raised goes on."""
    return run.read_manifest().get("length") != run_length(cli)


def run_length(cli: RevinstCLI) -> list[Any]:
    return [cli.config.trainer.max_epochs, cli.config.trainer.max_steps]


def find_checkpoint(run: Run, cli: RevinstCLI) -> Path | None:
    """The checkpoint to go on from, or None to start. Refuses what would mix two runs."""
    resume = cli.config.resume
    if resume == "never":
        if run.path.exists() and any(run.path.iterdir()):
            raise UserError(f"{run.path} exists and --resume is never; choose another --run_name")
        return None
    if resume != "auto":
        if not Path(resume).is_file():
            raise UserError(f"--resume {resume}: neither auto, never nor a checkpoint file")
        return Path(resume)
    checkpoint = newest_checkpoint(run)
    if checkpoint is not None and run.config.is_file() and not cli.config.resume_force:
        difference = config_difference(run.config.read_text(encoding="utf-8"), cli.as_yaml)
        if difference:
            raise UserError(
                f"{run.path} was started with another config ({'; '.join(difference)}); "
                "choose another --run_name, or --resume_force true"
            )
    return checkpoint


def build_trainer(run: Run, cli: RevinstCLI) -> L.Trainer:
    """The Trainer of the config with our loggers, callbacks and checkpoint writer."""
    options = dict(cli.config_init.trainer)
    metrics = MetricsFile(run.metrics)
    loggers: list[Any] = [metrics]
    if options["logger"] in (None, True):
        loggers = [TensorBoardLogger(save_dir=str(run.path), name="tensorboard", version=""), metrics]
    elif options["logger"]:
        given = options["logger"]
        loggers = [*(given if isinstance(given, list) else [given]), metrics]
    ours = [
        RunFolder(run, cli.as_yaml, metrics),
        Throughput(),
        Samples(cli.config.samples.every_steps, cli.config.samples.count),
        Checkpoints(run, cli.config_init.checkpoint),
    ]
    if options.get("enable_progress_bar") is not False:
        ours.append(RichProgressBar(leave=True))
    options |= {
        "logger": loggers,
        "callbacks": [*(options.get("callbacks") or []), *ours],
        "plugins": [*(options.get("plugins") or []), AtomicCheckpointIO()],
        "default_root_dir": str(run.path),
    }
    run.path.mkdir(parents=True, exist_ok=True)
    run.update_manifest(completed=False, length=run_length(cli))
    return L.Trainer(**options)
