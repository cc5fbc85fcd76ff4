"""The run folder: where each file of a run lies, its manifest, and its lock."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from revinst.errors import UserError
from revinst.runs.files import read_json, write_json

# The kernel's lock, and in words whose it is: Windows lets nobody read a locked file.
LOCK_FILES = (".lock", ".owner")


class Run:
    """Paths of one run, `runs/NAME`. Creates nothing until something is written."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.manifest = self.path / "manifest.json"
        self.split = self.path / "split.json"
        self.discarded = self.path / "discarded.jsonl"
        self.metrics = self.path / "metrics.csv"
        self.checkpoints = self.path / "checkpoints"
        self.adapter = self.path / "adapter"
        self.evaluation = self.path / "evaluation"
        self.tensorboard = self.path / "tensorboard"
        self.wandb = self.path / "wandb"
        self.mlflow = self.path / "mlflow"
        self.comet = self.path / "comet"
        self.lock_file, self.owner_file = (self.path / name for name in LOCK_FILES)

    @property
    def exists(self) -> bool:
        """Something was written here that a new run would mix with."""
        if not self.path.is_dir():
            return self.path.exists()
        return any(path not in (self.lock_file, self.owner_file) for path in self.path.iterdir())

    def read_manifest(self) -> dict[str, Any]:
        if not self.manifest.is_file():
            return {}
        manifest = read_json(self.manifest)
        if not isinstance(manifest, dict):
            raise UserError(f"{self.manifest}: not a manifest (a mapping is expected)")
        return manifest

    def check_resume(self, resume: str) -> None:
        """Raises UserError for a checkpoint that is not there, and for `never` where the folder is there."""
        if resume == "never" and self.exists:
            raise UserError(f"{self.path} exists and --resume is never; choose another --run_name")
        if resume not in ("auto", "never") and not Path(resume).is_file():
            raise UserError(f"--resume {resume}: neither auto, never nor a checkpoint file")

    @property
    def is_completed(self) -> bool:
        return bool(self.read_manifest().get("completed"))

    def update_manifest(self, **values: object) -> None:
        write_json(self.manifest, self.read_manifest() | values)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second `fit` out. The kernel gives the lock back when its owner dies, however it dies."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise UserError(f"{self.path} is a file; choose another name") from None
        # A file system without locks fails: filelock's stand-in would outlive an owner that was killed.
        lock = FileLock(self.lock_file, fallback_to_soft=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            owner = self.read_owner() or "another process"
            raise UserError(f"{self.path} is in use by {owner}; wait for it, or choose another name") from None
        try:
            if owner := self.read_owner():
                print(f"{self.path}: taken over from {owner}, which has ended")
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self.owner_file.write_text(
                f"process {os.getpid()} on {socket.gethostname()} since {now}\n", encoding="utf-8", newline="\n"
            )
            yield
        finally:
            self.unlock(lock)

    def read_owner(self) -> str:
        """Empty where there is none, or it has ended in order."""
        try:
            with self.owner_file.open(encoding="utf-8", errors="replace") as file:
                return " ".join(file.read(200).split())
        except OSError:
            return ""

    def unlock(self, lock: FileLock) -> None:
        """A run that was refused leaves no folder behind."""
        never_started = not self.config.is_file() and not self.exists
        with suppress(OSError):
            self.owner_file.unlink()
        if never_started:
            with suppress(PermissionError):  # Windows deletes no open file; `lock.release` does it there
                self.lock_file.unlink(missing_ok=True)  # while it is ours: afterwards it may be another's
        lock.release()
        if never_started:
            with suppress(OSError):
                self.path.rmdir()
                self.path.parent.rmdir()


def adapter_steps(manifest: Mapping[str, object]) -> object:
    """After which steps adapter/ is as the run was; several: their mean. Older runs have the last one's."""
    return manifest.get("adapter_steps") or [manifest.get("steps")]


def describe_final(manifest: Mapping[str, object]) -> str:
    """`adapter of step 50`, or `adapter the mean of steps 8, 16, 24`; "" where it is simply the last step's."""
    steps = adapter_steps(manifest)
    if steps == [manifest.get("steps")] or not isinstance(steps, list):
        return ""
    return f"adapter {'of step' if len(steps) == 1 else 'the mean of steps'} {', '.join(map(str, steps))}"


def open_run(path: str | Path, unfinished: bool = False) -> Run:
    """A run that trained to its end. Raises UserError for a folder that is no run, or an unfinished one.

    unfinished: accept one that was stopped; it may have no adapter yet, only checkpoints.
    """
    run = Run(path)
    if not run.path.is_dir():
        raise UserError(f"{path}: no such run folder")
    if not run.config.is_file() or not run.manifest.is_file():
        raise UserError(f"{path}: not a run folder (config.yaml or manifest.json is missing)")
    if unfinished:
        return run
    if not run.is_completed:
        raise UserError(f"{path}: this run has not finished; go on with `revinst fit`, or pass --unfinished")
    if not (run.adapter / "adapter_config.json").is_file():
        raise UserError(f"{path}: its adapter is gone; `revinst fit` with the same command writes it again")
    return run
