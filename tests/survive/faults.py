"""Fits in processes of their own that are killed at a chosen event.

The processes are forked from a server that has imported everything, so that a fit takes a second or two.
"""

import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SMALL = {
    "data.seq_len": 128,
    "data.packing": "none",
    "data.micro_batch_size": 2,
    "data.micro_batches_per_step": 2,
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
    from revinst.data.examples import load_examples

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
    return ["fit", *(str(part) for key, value in values.items() for part in (f"--{key}", value))]


def run_process(args: list[str], log: Path, fault: str = "", at: int | str = -1) -> tuple[int, int]:
    """(exit code, events seen).

    fault: names of signals that the process sends itself at event `at` and those after it. at: the event's number, or
    its name and number, such as `finish_step:6`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["revinst.commands.fit", "revinst.model.lora", "transformers", "peft"])
    counter = context.Value("i", 0)
    process = context.Process(target=work, args=(args, str(log), fault, at, counter))
    process.start()
    process.join(240)
    assert process.exitcode is not None, "hangs"
    return process.exitcode, counter.value


def work(args: list[str], log: str, fault: str, at: int | str, counter: Any) -> None:
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)

    names, seen = fault.split(), Counter[str]()

    def event(name: str) -> None:
        is_here = at in (counter.value, f"{name}:{seen[name]}")
        counter.value += 1
        seen[name] += 1
        if names and (is_here or len(names) < len(fault.split())):
            os.kill(os.getpid(), getattr(signal, names.pop(0)))

    watch(event)
    from revinst import cli

    sys.argv = ["revinst", *args]
    cli.main(args)


def watch(event: Callable[[str], None]) -> None:
    """Calls `event` before each of the moments that could lose something."""
    from revinst.training import callbacks, checkpoint_files
    from revinst.training.checkpoint import Checkpoints
    from revinst.training.loggers import MetricsFile
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
    hook(checkpoint_files, "write_json")
    hook(Checkpoints, "on_validation_end")
    hook(MetricsFile, "save")
    hook(callbacks, "save_adapter")
    hook(callbacks.RunFolder, "on_fit_end")
    hook(os, "replace")
    hook(os, "fsync")


def state_of(run: Path) -> dict[str, Any]:
    """What two runs are compared by: adapter bytes, the last checkpoint's tensors, the logged numbers but speed."""
    from revinst.training.loggers import read_rows

    files = sorted((run / "checkpoints").glob("step-*.ckpt"))
    last = torch.load(files[-1], weights_only=True)
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
