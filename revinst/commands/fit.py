"""`revinst fit`: trains into `runs/NAME`, or goes on where it stopped."""

import logging
import warnings
from contextlib import nullcontext
from pathlib import Path

import lightning as L
import torch

from revinst.config.parser import RevinstCLI
from revinst.errors import UserError
from revinst.launch.ranks import is_first_process
from revinst.model.base import check_folder
from revinst.model.memory import read_shape
from revinst.runs.folder import Run
from revinst.system import quiet_libraries
from revinst.training.resume import find_checkpoint, is_finished, where_to_go_on
from revinst.training.samples import Samples
from revinst.training.stop import Stopped, StopSignals
from revinst.training.trainer import build_trainer


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
