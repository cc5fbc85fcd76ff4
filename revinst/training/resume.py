"""Whether a run starts, goes on or has finished, and what it may not go on with."""

import re
from pathlib import Path

from revinst.config.file import read_yaml
from revinst.config.keys import flatten, lay_over, take_old_keys, unknown_keys
from revinst.config.parser import dump_config
from revinst.config.settings import Config
from revinst.config.stored import default_config, read_run_config
from revinst.data.datamodule import InstructionDataModule
from revinst.errors import UserError
from revinst.runs.checkpoints import TO_GO_ON, newest_checkpoint, read_checkpoint, read_mark, why_unusable
from revinst.runs.folder import Run
from revinst.training.fingerprint import fingerprints, hash_difference

# A resumed run may change these: they don't change what a step computes, but for the lr of a schedule that falls, which
# goes by the length of the training.
FREE_ON_RESUME = re.compile(
    r"(run_name|runs_dir|resume|resume_force|checkpoint\..*|samples\..*|val_generation\..*|launch\..*|config|data\.micro_batch_size|"
    r"model\.activation_memory_gib|"
    r"trainer\.(max_epochs|max_steps|precision|devices|num_nodes|strategy|logger|log_every_n_steps|enable_progress_bar|enable_model_summary|profiler|default_root_dir)(\..*)?)"
)


def where_to_go_on(run: Run) -> str:
    checkpoint = newest_checkpoint(run.checkpoints)
    if checkpoint is None:
        return "there is no checkpoint yet; the same command starts again"
    return f"the same command goes on from {checkpoint}"


def is_finished(run: Run, config: Config) -> bool:
    """Whether there is nothing left to do. Refuses a finished run's name for another config."""
    if config.resume != "auto" or not run.is_completed or not run.adapter.is_dir():
        return False
    if not config.resume_force:
        check_config(run, run.config.read_text(encoding="utf-8"), config, run.read_manifest().get("world_size"))
    manifest, trainer = run.read_manifest(), config.trainer
    # not steps times epochs: a run that changed its number of ranks has steps of two sizes
    done = ((trainer.max_epochs, manifest.get("epochs", 0)), (trainer.max_steps, manifest.get("steps", 0)))
    is_done = any(length and 0 < length <= reached for length, reached in done)
    if is_done and not config.resume_force:
        check_final(run, config)
    return is_done


def check_final(run: Run, config: Config) -> None:
    """The adapter of a finished run is what `checkpoint.final` made of it; it is not made anew."""
    stored = read_run_config(run.config, run.read_manifest().get("world_size")).checkpoint
    names = ("final", *{"last": (), "best": ("monitor",), "mean": ("keep_last",)}[config.checkpoint.final])
    for name in names:
        if (before := getattr(stored, name)) != (after := getattr(config.checkpoint, name)):
            raise UserError(
                f"{run.path} has finished with another adapter (checkpoint.{name}: {before} -> {after}); "
                "choose another --run_name"
            )


def find_checkpoint(run: Run, config: Config, data: InstructionDataModule) -> Path | None:
    """The checkpoint to go on from, or None to start. Refuses what would mix two runs."""
    resume = config.resume
    run.check_resume(resume)
    if resume == "never":
        return None
    if resume == "auto":
        checkpoint = newest_checkpoint(run.checkpoints)
    else:
        checkpoint = Path(resume)
        if read_mark(checkpoint) and (reason := why_unusable(checkpoint)):
            raise UserError(f"--resume {resume}: {reason}; give another checkpoint")
    if checkpoint is not None:
        started = read_checkpoint(checkpoint, TO_GO_ON)["run"]
        if not config.resume_force:
            check_config(run, started["config"], config, started.get("world_size"))
            check_hashes(run, started["hashes"], config, data)
    return checkpoint


def check_config(run: Run, started_with: str, config: Config, world_size: int | None) -> None:
    """world_size: that it was started with."""
    if difference := config_difference(started_with, dump_config(config), world_size):
        raise UserError(
            f"{run.path} was started with another config ({'; '.join(difference)}); "
            "choose another --run_name, or --resume_force true"
        )


def check_hashes(run: Run, started_with: dict[str, str], config: Config, data: InstructionDataModule) -> None:
    """The config can be the same while the files that it names are not."""
    if difference := hash_difference(started_with, fingerprints(data, config.model.base)):
        raise UserError(
            f"{run.path} was started on other inputs ({'; '.join(difference)}); "
            "restore them, choose another --run_name, or --resume_force true"
        )


def config_difference(old: str, new: str, world_size: int | None = None) -> list[str]:
    """Lines `key: old -> new` for what a resumed run may not change. world_size: of the old one."""
    after = flatten(read_yaml(new))
    before = flatten(lay_over(default_config(), take_old_keys(read_yaml(old), world_size)))
    unknown = tuple(f"{key}." for key in unknown_keys(read_yaml(old), read_yaml(new)))
    return [
        f"{key}: {before.get(key)} -> "
        + ("no such key in this version" if f"{key}.".startswith(unknown) else str(after.get(key)))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not FREE_ON_RESUME.fullmatch(key)
    ]
