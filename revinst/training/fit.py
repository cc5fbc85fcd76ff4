"""A run, from its config to its adapter: starts, goes on where it stopped, or says that it has finished."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from shlex import quote

import lightning as L
import torch

from revinst.config.settings import Config
from revinst.data.datamodule import InstructionDataModule, build_data
from revinst.errors import UserError
from revinst.launch.ranks import is_of_agent, process_group
from revinst.model.build import build_empty
from revinst.model.fingerprint import check_folder
from revinst.model.mergeable import check_mergeable
from revinst.runs.folder import Run
from revinst.training.module import InstructionModule
from revinst.training.resume import find_checkpoint, is_finished, where_to_go_on
from revinst.training.samples import Samples
from revinst.training.stop import Stopped, StopSignals
from revinst.training.trainer import build_trainer
from revinst.training.val_generation import check_val_generation


def train(config: Config, signals: StopSignals) -> tuple[int, str]:
    """(exit code, what there is to say by the first rank).

    Everything a user can get wrong is looked for before the first write; every rank decides by the same files.
    """
    L.seed_everything(config.seed_everything, workers=True)
    data, module = build_data(config), InstructionModule(config.model)
    run = Run(Path(config.runs_dir) / config.run_name)
    if is_finished(run, config):
        hint = "another --run_name trains anew, as you want if the data changed since"
        return 0, f"{run.path}: this run has finished; nothing to do ({hint})"
    check_folder(config.model.base)
    trainer = build_trainer(run, config, signals)
    with run.lock() if trainer.is_global_zero else nullcontext():
        data.setup()
        data.tokenizer.check_belongs(config.model.base)
        # Refuses what can't be trained, an adapter that the base has no layers for, and one that could not be merged.
        check_mergeable(build_empty(config.model.base, config.model.lora, config.model.quantization), config.model)
        check_against_data(trainer, config, data)
        trainer.ckpt_path = find_checkpoint(run, config, data)
        torch.set_float32_matmul_precision("high")  # tf32 for what is left in fp32, as in the recipe
        try:
            with meeting_ranks(trainer):
                trainer.fit(module, datamodule=data, weights_only=True)
        except Stopped as stopped:
            # The others end in order: by another code than 0 a launcher would end the first one before it has spoken.
            exit_code = stopped.exit_code if trainer.is_global_zero else 0
            return exit_code, f"stopped by {stopped.name} at step {module.step}; {where_to_go_on(run)}"
    score = f"revinst evaluate {quote(str(run.path))}"
    return 0, f"{run.path}: {module.step} steps done; adapter in {run.adapter}; score it: {score}"


def meeting_ranks(trainer: L.Trainer) -> AbstractContextManager[None]:
    """The process group of our agent's ranks, which Lightning then finds; other launchers' it makes itself."""
    if trainer.world_size == 1 or not is_of_agent():
        return nullcontext()
    device, strategy = trainer.strategy.root_device, trainer.strategy
    backend = getattr(strategy, "process_group_backend", None) or ("nccl" if device.type == "cuda" else "gloo")
    return process_group(backend, device_id=device if device.type == "cuda" else None)


def check_against_data(trainer: L.Trainer, config: Config, data: InstructionDataModule) -> None:
    """What only the data can tell to be wrong: samples without room, a validation interval that never comes."""
    if config.samples.every_steps:
        Samples(config.samples).encode(data)
    if config.val_generation.every_steps:
        check_val_generation(trainer, config.val_generation, data)
    if config.checkpoint.final == "best" and not (data.val_rows and trainer.limit_val_batches):
        raise UserError("checkpoint.final best: there are no validation rows to choose by; raise data.val_fraction")
    data.check_ranks(trainer.world_size)
    steps, interval = data.steps_per_epoch, trainer.val_check_interval
    if trainer.check_val_every_n_epoch and isinstance(interval, int) and interval > steps and data.val_rows:
        raise UserError(
            f"trainer.val_check_interval {interval}: an epoch has {steps} steps; lower it, or set "
            "trainer.check_val_every_n_epoch: null to count over epochs"
        )
