"""Fits in processes of their own that are killed at a chosen event.

The processes are forked from a server that has imported everything, so that a fit takes a second or two.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from itertools import zip_longest
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

SMALL = {
    "data.seq_len": 128,
    "data.packing": "none",
    "data.rows_per_step": 4,
    "data.micro_batch_size": 2,
    "data.heldout_fraction": 0.1,
    "data.val_fraction": 0.1,
    "model.lora": "{r: 4, alpha: 8, dropout: 0.1, target_modules: all-linear}",
    "model.lr": 0.01,
    "trainer.max_epochs": 2,
    "trainer.val_check_interval": 3,
    "trainer.log_every_n_steps": 1,
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
    "trainer.logger": "false",
    "checkpoint.every_steps": 2,
    "checkpoint.keep_last": 2,
    "samples.every_steps": 0,
}


def write_rows(path: Path, count: int = 40) -> Path:
    from revinst.data.example_table import load_examples

    rows = [
        {"instruction": example.instruction, "response": " ".join(example.response.split()[:30])}
        for example in load_examples("quickstart")[0][:count]
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def arguments(runs: Path, name: str, base: Path, **options: object) -> list[str]:
    values = (
        SMALL | {"model.base": base, "runs_dir": runs, "run_name": name, "data.source": runs / "rows.jsonl"} | options
    )
    return fit_command(values)


def fit_command(values: dict[str, Any]) -> list[str]:
    return ["fit", *(str(part) for key, value in values.items() for part in (f"--{key}", value))]


def run_process(
    args: list[str],
    log: Path,
    fault: str | Callable[[], object] = "",
    at: int | str = -1,
    *,
    after_s: float | None = None,
    threads: int = 1,
    method: str = "forkserver",
) -> tuple[int, list[str]]:
    """(exit code, names of the events seen).

    fault: names of signals that the process sends itself at event `at` and those after it; or what it calls there. at:
    the event's number, or its name and number, such as `finish_step:6`. after_s: it gets SIGKILL then, by the clock.
    """
    process, seen = start_process(args, log, fault, at, threads, method=method)
    process.join(240 if after_s is None else after_s)
    if after_s is not None:
        process.kill()
        process.join(60)
    assert process.exitcode is not None, "hangs"
    return process.exitcode, seen.read_text().split()


def start_process(
    args: list[str],
    log: Path,
    fault: str | Callable[[], object] = "",
    at: int | str = -1,
    threads: int = 1,
    *,
    method: str = "forkserver",
) -> tuple[BaseProcess, Path]:
    """The process, and the file that it writes the names of its events to.

    method: `spawn` for a fit on a GPU: CUDA, which imports of the server may touch, does not survive a fork.
    """
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["revinst.commands.fit", "revinst.model.lora", "transformers", "peft"])
    seen = log.with_suffix(".events")
    seen.write_text("")
    options = {"unprivileged": method == "forkserver"}  # a GPU's files may be for the real root
    process = context.Process(target=work, args=(args, log, fault, at, seen, threads), kwargs=options)
    process.start()
    return process, seen


def work(
    args: list[str],
    log: Path,
    fault: str | Callable[[], object],
    at: int | str,
    events: Path,
    threads: int,
    *,
    unprivileged: bool,
) -> None:
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(threads)
    if unprivileged:
        give_up_privileges()

    faults: list[Any] = fault.split() if isinstance(fault, str) else [fault]
    seen, num_faults = Counter[str](), len(faults)
    names = events.open("ab", buffering=0)

    def event(name: str) -> None:
        is_here = at in (seen.total(), f"{name}:{seen[name]}")
        seen[name] += 1
        names.write(f"{name}\n".encode())
        if faults and (is_here or len(faults) < num_faults):
            now = faults.pop(0)
            now() if callable(now) else os.kill(os.getpid(), getattr(signal, now))

    watch(event)
    from revinst import cli

    sys.argv = ["revinst", *args]
    cli.main(args)


def give_up_privileges() -> None:
    """Root in a user namespace of its own is stopped by permissions, as anybody is; others stay what they are."""
    clone_newuser = 0x10000000
    ctypes.CDLL(None).unshare(clone_newuser)


MOMENTS = {
    "in a step": ("micro_batch_loss", "finish_step"),
    "between two steps of an epoch": ("log_row", "is_due"),
    "in a checkpoint": ("save_checkpoint", "write", "fsync", "replace", "write_json"),
    "in a validation": ("validation_step", "write_samples", "on_validation_end"),
}


def watch(event: Callable[[str], None]) -> None:
    """Calls `event` before each of the moments that could lose something."""
    from revinst.runs import checkpoints as checkpoint_files
    from revinst.runs.metrics import MetricsFile
    from revinst.training import run_folder, val_generation
    from revinst.training.checkpoint import Checkpoints
    from revinst.training.module import InstructionModule

    def hook(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            event(name)
            return original(*args, **kwargs)

        setattr(owner, name, watched)

    hook(InstructionModule, "micro_batch_loss")
    hook(InstructionModule, "validation_step")
    hook(InstructionModule, "finish_step")
    hook(checkpoint_files.AtomicCheckpointIO, "save_checkpoint")
    hook(checkpoint_files.HashingFile, "write")
    hook(checkpoint_files, "write_json")
    hook(val_generation, "write_samples")
    hook(Checkpoints, "log_row")
    hook(Checkpoints, "is_due")
    hook(Checkpoints, "on_validation_end")
    hook(MetricsFile, "save")
    hook(run_folder, "save_adapter")
    hook(run_folder.RunFolder, "on_fit_end")
    hook(os, "replace")
    hook(os, "fsync")
    hook(Path, "rename")


def state_of(run: Path) -> dict[str, Any]:
    """What two runs are compared by: adapter bytes, the last checkpoint's tensors, the logged numbers but speed."""
    from revinst.runs.metrics import read_rows

    files = sorted((run / "checkpoints").glob("step-*.ckpt"))
    last = torch.load(files[-1], weights_only=True, map_location="cpu")
    rows = [{key: row[key] for key in row if not key.startswith("perf/")} for row in read_rows(run / "metrics.csv")]
    manifest = json.loads((run / "manifest.json").read_text())
    return {
        "adapter": (run / "adapter" / "adapter_model.safetensors").read_bytes(),
        "files": [file.name for file in files],
        "state_dict": last["state_dict"],
        "optimizer": last["optimizer_states"][0]["state"],
        "rng": last["run"]["rng"][0]["torch"],
        "step": last["revinst"],
        "data": last["InstructionDataModule"],
        "rows": rows,
        "manifest": {key: manifest[key] for key in ("completed", "steps", "val_loss", "hashes")},
    }


def assert_equal(got: Any, expected: Any, where: str = "") -> None:
    if isinstance(expected, dict):
        assert got.keys() == expected.keys(), where
        for key in expected:
            assert_equal(got[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(got) == len(expected), where
        for number, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_equal(one, other, f"{where}[{number}]")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(got, expected), where
    else:
        assert got == expected, where


def count_lost(got: Any, expected: Any) -> int:
    """Bytes of `expected` that `got` has not, or has otherwise."""
    if isinstance(expected, dict):
        return sum(count_lost(got.get(key), value) for key, value in expected.items())
    if isinstance(expected, list):
        return sum(count_lost(one, other) for one, other in zip_longest(got[: len(expected)], expected))
    if isinstance(expected, torch.Tensor):
        if not isinstance(got, torch.Tensor) or got.shape != expected.shape:
            return expected.nbytes
        return int((got != expected).sum()) * expected.element_size()
    if isinstance(expected, bytes):
        return sum(one != other for one, other in zip_longest((got or b"")[: len(expected)], expected))
    return 0 if got == expected else len(repr(expected))
