"""Whether a run starts, goes on or has finished, and what it may not go on with."""

from pathlib import Path

from revinst.config.parser import RevinstCLI, config_difference
from revinst.errors import UserError
from revinst.runs.checkpoints import TO_GO_ON, newest_checkpoint, read_checkpoint, read_mark, why_unusable
from revinst.runs.folder import Run
from revinst.training.fingerprint import fingerprints, hash_difference


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
