"""Whether RUN is something that can be opened, told before anything heavy is imported."""

from dataclasses import asdict, dataclass
from pathlib import Path

from revinst.errors import UserError
from revinst.runs.folder import Run, open_run


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """What an adapter folder does not say itself, and a run's config does; None: the default."""

    base: str | None = None
    quantization: str | None = None
    template: str | None = None
    seq_len: int | None = None


def find_run(folder: Path, unfinished: bool, options: AdapterOptions, step: int | None = None) -> Run | None:
    """The run; None for an adapter folder. Raises UserError when it is neither, or the run has not finished.

    step: the run as it was after that step.
    """
    if (folder / "adapter_config.json").is_file():
        if step is not None:
            raise UserError(f"--checkpoint {step}: {folder} is an adapter folder, and checkpoints are in a run")
        return None
    given = [name for name, value in asdict(options).items() if value is not None]
    if given and folder.is_dir():
        raise UserError(f"--{given[0]}: for adapter folders; {folder} is a run, and its config.yaml says this")
    return open_run(folder, unfinished or step is not None)
