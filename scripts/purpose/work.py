"""One process of `scripts/purpose`: prepares, trains arms and judges them."""

import argparse
import gc
import math
import os
import shlex
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from revinst.corpus.texts import Record
from revinst.data.example_table import load_examples
from revinst.errors import UserError
from revinst.evaluation.scores import score_predictions
from revinst.evaluation.summary import none_if_nan
from revinst.runs.folder import Run

from .arms import read_rows, write_arm

METRICS = ("log_p", "rougeL_unicode", "chrf")


@dataclass(frozen=True, slots=True)
class Task:
    arm: str
    epochs: int
    seed: int


def start_worker(logs: Path, gpus: "SimpleQueue[int] | None") -> None:
    """What it prints goes to a file of its own; of several GPUs it sees one; it ends with who began it (Linux)."""
    if gpus is not None:
        visible, number = os.environ.get("CUDA_VISIBLE_DEVICES"), gpus.get()
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number] if visible else str(number)
    if sys.platform == "linux":
        from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]

        _prctl_pr_set_pdeathsig(signal.SIGTERM)
    file = (logs / f"{os.getpid()}.log").open("ab", buffering=0)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file.fileno(), stream.fileno())


def prepare(options: argparse.Namespace, item: None) -> None:
    """The backward run, if none is given, the parts, and what is written; what is there already is not done again."""
    from .rows import check_rows, choose_rows, judge_rows, write_instructions  # PyTorch, which `--table` needs not

    work, backward = options.work, options.backward or str(options.runs / "backward")
    if not (work / "written.jsonl").is_file():
        if not options.data:
            raise UserError(f"{work}: nothing in it yet; give --data")
        if not options.backward:
            train_backward(options)
        if (work / "heldout.jsonl").is_file():
            check_rows(work, backward)
        else:
            choose_rows(work, options.data, backward, options.heldout, options.val, options.seeds[0])
        write_instructions(work, backward, options.runs, options.samples, options.deadline)
        free_memory()
        if not options.backward and (work / "written.jsonl").is_file():
            shutil.rmtree(options.runs / "backward" / "checkpoints", ignore_errors=True)
    if options.judge and not (work / "judged.jsonl").is_file():
        judge_rows(work, options.judge)


def train_backward(options: argparse.Namespace) -> None:
    """On two fifths of the rows, so that the others are left for forward models; its checkpoints are all kept until
    each that is asked for has written.
    """
    fit(
        options.backward_config, options.runs, "backward", options.backward_args,
        {"data.source": options.data, "data.heldout_fraction": 0.6, "checkpoint.every_steps": 5,
         "checkpoint.keep_last": 1000, "samples.every_steps": 0},
    )  # fmt: skip


def fit(config: str, runs: Path, name: str, more: str, values: dict[str, object]) -> None:
    """In this process, which has imported everything. Raises UserError where it fails.

    The base's products are in 16 bits on each GPU, since `auto` would mix two kinds where machines differ.
    """
    from revinst import cli

    values = values | {"runs_dir": runs, "run_name": name, "trainer.enable_progress_bar": "false"}
    values |= {"model.base_gemm": "bf16"}
    args = [part for key, value in values.items() for part in (f"--{key}", str(value))]
    try:
        cli.main(["fit", "--config", config, *args, *shlex.split(more)])
    except SystemExit as ended:
        if isinstance(ended.code, int) and ended.code > 128:  # by a signal, which all are to end by
            raise
        if ended.code:
            raise UserError(
                f"{runs / name}: fit ended with exit code {ended.code}; it said why (--jobs: {runs}/logs)"
            ) from None
    free_memory()


def try_task(options: argparse.Namespace, task: Task) -> Record | UserError | None:
    """`run_task`; what went wrong in place of a result, so that other arms go on."""
    try:
        return run_task(options, task)
    except (UserError, OSError, RuntimeError, MemoryError) as error:  # of memory, disk and GPU
        free_memory()
        # which other processes can read, whatever kind it was
        return UserError(f"{task.arm} x {task.epochs}, seed {task.seed}: {error}")


def run_task(options: argparse.Namespace, task: Task) -> Record | None:
    """Trains an arm and judges it; None when the time is over."""
    if time.time() > options.deadline:
        return None
    started, runs = time.monotonic(), options.runs
    name = f"{task.arm}-{task.epochs}-{task.seed}"
    source = runs / "rows" / f"{name}.jsonl"
    arm = "true" if task.arm == "base" else task.arm
    num_rows = write_arm(arm, read_rows(options.work), task.seed, options.seed_rows, source, options.work)
    shutil.rmtree(runs / name, ignore_errors=True)  # of a call that was killed
    length = {"trainer.max_epochs": task.epochs} if task.epochs else {"trainer.max_steps": 1}
    fit(
        options.forward_config, runs, name, options.forward_args,
        {"seed_everything": task.seed, "data.source": source, "data.split": source.with_suffix(".split.json"),
         "checkpoint.every_steps": "null", "checkpoint.keep_best": 0, "samples.every_steps": 0} | length,
    )  # fmt: skip
    scores = judge_run(options, runs / name, use_adapter=task.arm != "base")
    shutil.rmtree(runs / name)
    val_loss = scores.pop("val_loss")
    return asdict(task) | {"rows": num_rows, "seconds": time.monotonic() - started, "val_loss": val_loss} | scores


def judge_run(options: argparse.Namespace, run: Path, use_adapter: bool) -> Record:
    """METRICS of each held-out row; None for a response that is too long to be read."""
    from revinst.inference.engine.settings import GenerationSettings
    from revinst.inference.predictor import Predictor
    from revinst.inference.trained import open_trained

    trained = open_trained(str(run))
    heldout, _ = load_examples(str(options.work / "heldout.jsonl"))
    settings = GenerationSettings(max_new_tokens=options.new_tokens, memory_gib=share_of_memory(options))
    predictor = Predictor(trained, heldout, settings)
    log_p = predictor.log_p(use_adapter) / predictor.count_targets()
    texts = [each.prediction for each in predictor.predict(run / "judged", use_adapter)]
    scores = {"log_p": log_p} | score_predictions(texts, heldout.texts("response"))
    del predictor
    free_memory()
    found: Record = {name: [none_if_nan(round(value, 6)) for value in scores[name].tolist()] for name in METRICS}
    return found | {"val_loss": Run(run).read_manifest()["val_loss"]}


def share_of_memory(options: argparse.Namespace) -> float | None:
    """GiB that one of a GPU's jobs may write texts in: half of its part, since others train meanwhile."""
    import torch

    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_properties(0).total_memory / 2**30 / (2 * math.ceil(options.jobs / options.gpus))


def free_memory() -> None:
    import torch

    gc.collect()
    torch.cuda.empty_cache()
