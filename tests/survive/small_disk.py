"""FOLDER BASE RESULTS SIZE...: fits on disks of SIZE bytes, which then grow; in a mount namespace of its own.

Writes `state_of` each run that found its disk full and came to its end on the larger one to RESULTS.
"""

import subprocess
import sys
from pathlib import Path

import torch

from revinst.runs.checkpoints import checkpoint_files, newest_checkpoint, why_unusable
from tests.survive.faults import arguments, run_process, state_of


def fill_and_grow(folder: Path, base: Path, disk: Path, size: int) -> dict | None:
    """The state of the finished run; None when the disk had room for all of it."""
    log = folder / f"full-{size}.log"
    args = arguments(folder, "full", base, runs_dir=disk)
    mount("-t", "tmpfs", "-o", f"size={size}", "none", str(disk))
    try:
        code, _ = run_process(args, log)
        if code == 0:
            return None
        lines = log.read_text().strip().splitlines()
        print(f"{size}: {lines[-1]}")
        assert code == 2 and "No space left" in lines[-1] and "Traceback" not in log.read_text(), log.read_text()
        assert str(disk) in lines[-1], lines[-1]
        files = checkpoint_files(disk / "full" / "checkpoints")
        assert newest_checkpoint(disk / "full" / "checkpoints") == (files[-1] if files else None)
        assert not any(map(why_unusable, files)), "what is there is whole"
        assert not list(disk.rglob(".*.tmp")), "nothing half-written is left"
        mount("-o", "remount,size=64m", str(disk))
        code, _ = run_process(args, log)
        assert code == 0, log.read_text()
        return state_of(disk / "full")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def mount(*args: str) -> None:
    subprocess.run(["mount", *args], check=True)


if __name__ == "__main__":
    folder, base, results = map(Path, sys.argv[1:4])
    disk = results / "disk"
    disk.mkdir()
    for number, size in enumerate(map(int, sys.argv[4:])):
        if (state := fill_and_grow(folder, base, disk, size)) is not None:
            torch.save(state, results / f"state-{number}.pt")
