"""Checkpoint files: `step-000200.ckpt`, and beside it `step-000200.json`, which marks it complete.

The mark is written last. It holds the file's length and SHA-256, and whether the checkpoint was due: by steps, by
epochs or as the last one, not by the clock, a signal or a good validation pass. Later it has the val/loss at that step
and the scores of the texts that were written in that pass.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from revinst.errors import UserError
from revinst.runs.files import hash_file, read_json, whole_folder, write_json
from revinst.runs.folder import Run
from revinst.system import sync

TO_EXPORT = ("state_dict", "run.adapter_config")
TO_GO_ON = (
    *TO_EXPORT, "optimizer_states", "InstructionDataModule.next_row", "revinst.step", "run.config", "run.hashes",
    "run.place", "run.rng",
)  # fmt: skip
STEP_FILE = re.compile(r"step-(\d+)\.ckpt")
EXPORTED = ".checkpoint.json"  # in an exported adapter: which checkpoint it is of
ASIDE = "aside"  # folder of checkpoints that a resumed run left behind


class HashingFile:
    """A file that knows the SHA-256 and length of what was written, so that no second pass over gigabytes is needed."""

    def __init__(self, file: BinaryIO):
        self.file, self.sha256, self.length = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.length += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the target, flushes to disk, renames, marks: a full disk or a kill leaves the old files whole.

    `error` keeps what went wrong: raised here, on one rank, it would leave the others waiting for ever.
    """

    error: str | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self.error = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as raw:
                file = HashingFile(raw)
                torch.save(checkpoint, file)  # type: ignore[arg-type]  # write and flush are enough
                file.flush()
                os.fsync(raw.fileno())
            mark_of(path).unlink(missing_ok=True)  # one of an earlier file of this name
            os.replace(temporary, path)
            sync(path.parent)
            due = checkpoint.get("run", {}).get("is_due", True)
            mark = {"bytes": file.length, "sha256": file.sha256.hexdigest(), "is_due": due, "val_loss": None}
            write_json(mark_of(path), mark)
        except (OSError, RuntimeError) as error:  # torch's zip writer reports a full disk as RuntimeError
            self.error = (
                f"{path}: the checkpoint can't be written ({first_line(error)}); free some space and run the same "
                "command again, it goes on from the checkpoint before"
            )
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: str | Path, map_location: torch.device | str | None = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def checkpoint_files(folder: Path) -> list[Path]:
    """Checkpoints of a folder, oldest step first, complete or not."""
    return sorted((path for path in folder.glob("step-*.ckpt") if STEP_FILE.fullmatch(path.name)), key=step_of)


def step_of(path: Path) -> int:
    match = STEP_FILE.fullmatch(path.name)
    return int(match.group(1)) if match else -1


def mark_of(path: Path) -> Path:
    return path.with_suffix(".json")


def read_mark(path: Path) -> dict[str, Any]:
    """The mark of a checkpoint; {} when it has none that can be read."""
    try:
        mark = read_json(mark_of(path))
    except UserError:
        return {}
    return mark if isinstance(mark, dict) and {"bytes", "sha256"} <= mark.keys() else {}


def why_unusable(path: Path) -> str:
    """What is wrong with a checkpoint of a run folder, or ""."""
    mark = read_mark(path)
    if not mark:
        return "not marked complete"
    if path.stat().st_size != mark["bytes"]:
        return f"{path.stat().st_size} bytes instead of {mark['bytes']}"
    return "" if hash_file(path) == mark["sha256"] else "its checksum is wrong"


def read_checkpoint(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a checkpoint; loading runs no code. Raises UserError unless revinst wrote it.

    needed: names of fields that it must have. Others that an older version did not write mean what that version did.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a torn zip or a foreign pickle fails in many ways
        raise UserError(f"{path}: not a checkpoint that can be read ({first_line(error)[:120]})") from None
    if not isinstance(content, dict) or "revinst" not in content or "run" not in content:
        raise UserError(f"{path}: not a checkpoint of revinst")
    for name in needed:
        inner = content
        for key in name.split("."):
            if not isinstance(inner, dict) or key not in inner:
                raise UserError(f"{path}: it has no {name}, so this version can't use it; it is of a much older one")
            inner = inner[key]
    return content


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; others are skipped with a word. None: there is not one file.

    Raises UserError when there are files and none is whole: starting over would bury what can perhaps be saved.
    """
    files = checkpoint_files(folder)
    for path in reversed(files):
        reason = why_unusable(path)
        if not reason:
            return path
        rank_zero_only(print)(f"{path}: skipped ({reason})")
    if files:
        raise UserError(
            f"{folder}: none of its {len(files)} checkpoints is whole; restore one, or choose another --run_name"
        )
    return None


def checkpoint_at(folder: Path, step: int) -> Path:
    """Raises UserError naming the steps that there are."""
    files = {step_of(path): path for path in checkpoint_files(folder)}
    if step not in files:
        there = ", ".join(map(str, sorted(files))) or "none"
        raise UserError(f"{folder}: no checkpoint of step {step}; there are: {there}")
    if reason := why_unusable(files[step]):
        raise UserError(f"{files[step]}: {reason}")
    return files[step]


def export_checkpoint(run: Run, step: int | None = None, parent: Path | None = None) -> Path:
    """The adapter of a run's checkpoint as a PEFT folder `adapter-step-000200`.

    step: None: the newest. parent: where the folder is; None: in the run.
    """
    from safetensors.torch import save_file

    checkpoint = newest_checkpoint(run.checkpoints) if step is None else checkpoint_at(run.checkpoints, step)
    if checkpoint is None:
        raise UserError(f"{run.path}: no checkpoint in it yet; go on with `revinst fit`")
    folder = (parent or run.path) / f"adapter-{checkpoint.stem}"
    made_from = {"sha256": read_mark(checkpoint)["sha256"]}  # a forced resume writes another step of this number
    if (folder / EXPORTED).is_file() and read_json(folder / EXPORTED) == made_from:
        return folder
    content = read_checkpoint(checkpoint, TO_EXPORT)
    state = {name: tensor.contiguous() for name, tensor in content["state_dict"].items()}
    with whole_folder(folder) as temporary:
        save_file(state, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        write_json(temporary / "adapter_config.json", content["run"]["adapter_config"])
        write_json(temporary / EXPORTED, made_from)
    return folder


def choose_final(folder: Path, final: str, keep_last: int, monitor: str) -> list[Path]:
    """The checkpoints that the finished adapter is made of; none for `last`, or where none was scored.

    final, keep_last, monitor: as in `CheckpointSettings`. A mean is of those that were due: what the clock or a signal
    saved besides must not change what a run ends as.
    """
    files = checkpoint_files(folder)
    if final == "mean":
        return [path for path in files if is_due(read_mark(path))][-keep_last:]
    scored = {path: value for path in files if (value := worth(read_mark(path), monitor)) is not None}
    return [max(scored, key=lambda path: scored[path])] if final == "best" and scored else []


def mean_state(paths: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The adapter's tensors, each the mean over the checkpoints: of A and of B for itself, so the rank stays.

    The product of the means is not the mean of the products. What is left out is the covariance of A and B along the
    run, which is small where the checkpoints are near each other (averaged weights: https://arxiv.org/abs/1803.05407).
    """
    states = [read_checkpoint(path, TO_EXPORT)["state_dict"] for path in paths]
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def set_aside(folder: Path, step: int) -> None:
    """Moves checkpoints beyond `step` away: a run that goes on from there must neither resume nor prune by them."""
    for path in checkpoint_files(folder):
        if step_of(path) > step:
            (folder / ASIDE).mkdir(exist_ok=True)
            for file in (path, mark_of(path)):
                if file.exists():
                    os.replace(file, folder / ASIDE / file.name)


def remove_leftovers(folder: Path) -> None:
    """Half-written files of a process that was killed; the run's lock says that nobody writes them now."""
    for path in folder.glob(".step-*.tmp"):
        path.unlink(missing_ok=True)


def is_due(mark: Mapping[str, object]) -> bool:
    """Of a checkpoint; of an older version's, which does not say, too."""
    return bool(mark) and mark.get("is_due") is not False


def prune(folder: Path, keep_last: int, keep_best: int, monitor: str = "val/loss", final: str = "last") -> None:
    """Deletes complete checkpoints that are neither among the newest nor among the best by `monitor`, nor wanted for a
    mean.
    """
    marks = {path: mark for path in checkpoint_files(folder) if (mark := read_mark(path))}
    files = list(marks)
    scored = {path: value for path in files if (value := worth(marks[path], monitor)) is not None}
    kept = sorted(scored, key=lambda path: -scored[path])[:keep_best] + choose_final(folder, final, keep_last, monitor)
    for path in files[:-keep_last]:
        if path not in kept:
            mark_of(path).unlink()
            path.unlink()


def worth(mark: Mapping[str, object], monitor: str) -> float | None:
    """Of a checkpoint, by a number of its validation pass: the higher the better. None: none yet, or not finite.

    monitor: val/loss, or a score that is in the mark under its own name.
    """
    value = mark.get("val_loss" if monitor == "val/loss" else monitor)
    if not isinstance(value, float):
        return None
    return -value if monitor == "val/loss" else value


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
