"""Trains the same steps on one GPU and on all, kills a rank and goes on, writes on one and on all; compares.

    python scripts/bench_ranks.py --base FOLDER --source FILE --work FOLDER [--devices 2]
           [--parts speed kill restart evaluate write] [--variants one ddp fsdp2] [-- --KEY VALUE ...]

Everything runs through the commands of `revinst`; keys after `--` go to each `fit`. A step has `--rows` rows however
many GPUs share them. `speed` comes first: `kill` and `restart` compare with its runs, `evaluate` and `write` read one
of them. Exit code 1 when losses are farther apart than `--bound`, or texts in fp32 differ.
"""

import argparse
import csv
import itertools
import json
import os
import queue
import re
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from safetensors.numpy import load_file

from revinst.data.example_table import load_examples
from revinst.launch.heartbeat import RankFiles
from revinst.launch.ranks import AGENT_FOLDER
from revinst.options import Parser

STRATEGIES = {"one": "auto", "ddp": "ddp", "fsdp2": "fsdp2"}
EVERY_STEPS = 5  # checkpoints of a run that is killed
COMMANDS = {
    "generate-bf16": ("generate", "bf16"),
    "generate-fp32": ("generate", "fp32"),
    "corpus-bf16": ("corpus", "bf16"),
}
HANG_S = 30  # a rank of the 7B shape loads and steps well within it
LIMIT_S = 600


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--config", default="configs/llama2-7b.yaml")
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--accelerator", default="gpu", help="cpu: processes over gloo")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--variants", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--rows", type=int, default=24, help="of a step, over all GPUs")
    parser.add_argument("--micro_batch_size", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=8, help="steps whose speed does not count: FSDP2 needs some")
    parser.add_argument("--bound", type=float, default=5e-3, help="relative, of a step's loss")
    parser.add_argument("--evaluated", default="ddp", help="the variant whose run is evaluated")
    parser.add_argument("--limit", type=int, default=400, help="rows that are evaluated")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="of the part write")
    parser.add_argument("--texts", type=int, default=10_000, help="that are written for")
    parser.add_argument("--max_new_tokens", type=int, default=64, help="of each of them")
    parser.add_argument("keys", nargs="*", help="after --: further keys of fit")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    passed = [PARTS[part](options) for part in options.parts]
    sys.exit(not all(passed))


# ---- speed -----------------------------------------------------------------------------------------------------------


def compare_speed(options: argparse.Namespace) -> bool:
    """tokens/s over all GPUs, median of steps; efficiency against as many times one GPU; losses against one GPU's."""
    seen = {name: fit(options, name) for name in options.variants}
    print("| variant | GPUs | tokens/s | efficiency | peak GiB a GPU | farthest loss | last loss | s in all |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    one, passed = seen.get("one"), []
    for name, run in seen.items():
        devices = devices_of(options, name)
        share = f"{run['tokens_per_s'] / devices / one['tokens_per_s']:.3f}" if one else ""
        away = distance(run["losses"], one["losses"]) if one else 0.0
        passed.append(away <= options.bound)
        cells = [name, devices, f"{run['tokens_per_s']:,.0f}", share, f"{run['peak_gib']:.2f}", f"{away:.1e}"]
        print_row(*cells, f"{run['losses'][-1]:.4f}", f"{run['seconds']:.0f}")
    return all(passed)


def print_row(*cells: Any) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def fit(options: argparse.Namespace, name: str, run_name: str = "") -> dict[str, Any]:
    """Runs it to its end, from where it is, and reads what it logged. seconds: NaN where it had ended before."""
    run_name, seconds = run_name or name, float("nan")
    run, log = options.work / run_name, options.work / f"{run_name}.log"
    if not is_completed(run):
        since = time.perf_counter()
        process = start(options, name, run_name, log)
        if process.wait(LIMIT_S):
            sys.exit(f"{log.read_text()[-4000:]}\n{run_name}: exit code {process.returncode}")
        seconds = time.perf_counter() - since
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/loss")]
    speeds = [float(row["perf/tokens_per_s"]) for row in rows][options.warmup :]
    manifest = json.loads((run / "manifest.json").read_text())
    return {
        "losses": [float(row["train/loss"]) for row in rows],
        "tokens_per_s": statistics.median(speeds),
        "peak_gib": manifest["peak_gib"] or float("nan"),
        "seconds": seconds,
    }


def is_completed(run: Path) -> bool:
    manifest = run / "manifest.json"
    return manifest.is_file() and json.loads(manifest.read_text())["completed"]


def start(options: argparse.Namespace, name: str, run_name: str, log: Path, *more: str) -> subprocess.Popen:
    devices = devices_of(options, name)
    keys: dict[str, Any] = {
        "runs_dir": options.work,
        "run_name": run_name,
        "model.base": options.base,
        "model.optimizer": "adamw",  # the one that all strategies take
        "model.lora.dropout": 0,  # ranks draw masks of their own
        "data.source": options.source,
        "data.rows_per_step": options.rows,
        "data.micro_batch_size": options.micro_batch_size,
        "samples.every_steps": 0,
        "checkpoint.every_steps": EVERY_STEPS if run_name != name else "null",
        "trainer.accelerator": options.accelerator,
        "trainer.devices": devices,
        "trainer.strategy": STRATEGIES[name],
        "trainer.max_steps": options.steps,
        "trainer.max_epochs": -1,
        "trainer.log_every_n_steps": 1,
        "trainer.limit_val_batches": 0,
        "trainer.enable_progress_bar": "false",
        "trainer.logger": "false",
    }
    line = [sys.executable, "-m", "revinst.cli", "fit", "--config", options.config]
    line += [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    with log.open("ab") as output:
        return subprocess.Popen([*line, *options.keys, *more], stdout=output, stderr=output, env=dict(os.environ))


def devices_of(options: argparse.Namespace, name: str) -> int:
    return 1 if name == "one" else options.devices


def distance(got: list[float], expected: list[float]) -> float:
    """The farthest of the steps' losses, relative."""
    return max(abs(a - b) / abs(b) for a, b in zip(got, expected, strict=True))


# ---- a rank is killed ------------------------------------------------------------------------------------------------


def kill_a_rank(options: argparse.Namespace) -> bool:
    """SIGKILL to the last rank after the first checkpoint; the same command goes on; losses as without."""
    print("| variant | ended after | what it said | farthest loss | adapter | equal bits |")
    print("| --- | --- | --- | --- | --- | --- |")
    passed = []
    for name in options.variants:
        whole = fit(options, name)
        run_name, log = f"{name}-killed", options.work / f"{name}-killed.log"
        process = start(options, name, run_name, log)
        wait_for_file(options.work / run_name / "checkpoints" / f"step-{EVERY_STEPS:06d}.json", process, log)
        ranks = ranks_of(process)
        since = time.perf_counter()
        (ranks[-1] if ranks else psutil.Process(process.pid)).send_signal(signal.SIGKILL)
        process.wait(LIMIT_S)
        psutil.wait_procs(ranks, timeout=LIMIT_S)
        ended_s = time.perf_counter() - since
        reason = last_line(log)
        again = fit(options, name, run_name)
        away = distance(again["losses"], whole["losses"])
        passed.append(away <= options.bound)
        adapter, is_equal = compare_adapters(options.work / run_name, options.work / name)
        print_row(name, f"{ended_s:.1f} s", reason, f"{away:.1e}", f"{adapter:.1e}", is_equal)
    return all(passed)


def ranks_of(process: subprocess.Popen) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children() if "revinst.cli" in " ".join(child.cmdline())]


def wait_for_file(path: Path, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not path.is_file():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            sys.exit(f"{log.read_text()[-4000:]}\n{path} was not written")
        time.sleep(0.05)


def compare_adapters(got: Path, expected: Path) -> tuple[float, bool]:
    """(relative distance, whether all bits are equal)."""
    ours, theirs = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (got, expected))
    assert ours.keys() == theirs.keys()
    away = sum(float(((ours[name] - theirs[name]) ** 2).sum()) for name in ours)
    size = sum(float((theirs[name] ** 2).sum()) for name in ours)
    return (away / size) ** 0.5, all((ours[name] == theirs[name]).all() for name in ours)


def restart_ranks(options: argparse.Namespace) -> bool:
    """The last rank is killed, or stands still, after the first checkpoint; the agent starts all again."""
    print("| variant | what befalls a rank | s | what it said | farthest loss | equal bits |")
    print("| --- | --- | --- | --- | --- | --- |")
    passed = []
    for name in (name for name in options.variants if name != "one"):
        whole = fit(options, name)
        for sign in (signal.SIGKILL, signal.SIGSTOP):
            run_name, since = f"{name}-{sign.name}", time.perf_counter()
            code, reason = disturb(options, name, run_name, sign)
            seconds = time.perf_counter() - since
            if code:
                sys.exit(f"{run_name}: exit code {code}: {reason}")
            away = distance(fit(options, name, run_name)["losses"], whole["losses"])
            passed.append(away <= options.bound)
            _, is_equal = compare_adapters(options.work / run_name, options.work / name)
            cells = (f"{seconds:.0f}", reason, f"{away:.1e}", is_equal)
            print_row(name, sign.name, *cells)
    return all(passed)


def disturb(options: argparse.Namespace, name: str, run_name: str, sign: signal.Signals) -> tuple[int, str]:
    """(exit code, the agent's last line) of a run whose last rank gets a signal after the first checkpoint."""
    log = options.work / f"{run_name}.log"
    agent = ("--launch.max_restarts", "1", "--launch.hang_s", str(HANG_S))
    process = start(options, name, run_name, log, *agent)
    wait_for_file(options.work / run_name / "checkpoints" / f"step-{EVERY_STEPS:06d}.json", process, log)
    victim = ranks_of(process)[-1]
    files = RankFiles(Path(victim.environ()[AGENT_FOLDER]), devices_of(options, name) - 1)
    while (beat := files.read_beat()) and beat.limit_s > HANG_S:  # at rest, as while it saves, it may take much longer
        time.sleep(0.001)
    victim.send_signal(sign)
    code = process.wait(LIMIT_S)
    return code, last_line(log)


def last_line(log: Path) -> str:
    said = [line for line in log.read_text().splitlines() if line.startswith("revinst fit:")]
    return said[-1].removeprefix("revinst fit: ") if said else ""


# ---- evaluation ------------------------------------------------------------------------------------------------------


def compare_evaluations(options: argparse.Namespace) -> bool:
    """Predictions of the same rows by one GPU and by all: in fp32 the same texts, in bf16 but for rounding."""
    print("| precision | rows | equal texts | ROUGE-L, one | ROUGE-L, all | s, one | s, all |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    passed = []
    for precision in ("bf16", "fp32"):
        one, every = (evaluate(options, precision, devices) for devices in (1, options.devices))
        equal = sum(one["texts"][row] == text for row, text in every["texts"].items())
        passed.append(one["texts"].keys() == every["texts"].keys() and equal > 0)
        passed.append(precision == "bf16" or equal == len(one["texts"]))
        scores = [f"{made['rougeL']:.4f}" for made in (one, every)]
        print_row(precision, len(one["texts"]), equal, *scores, f"{one['seconds']:.0f}", f"{every['seconds']:.0f}")
    return all(passed)


def evaluate(options: argparse.Namespace, precision: str, devices: int) -> dict[str, Any]:
    output = options.work / f"evaluation-{precision}-{devices}"
    line = [sys.executable, "-m", "revinst.cli", "evaluate", options.work / options.evaluated, "--output", output]
    line += ["--limit", options.limit, "--precision", precision, "--devices", devices]
    since = time.perf_counter()
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}\nevaluate: exit code {done.returncode}")
    rows = [json.loads(row) for row in (output / "predictions.jsonl").read_text().splitlines()]
    scores = json.loads((output / "scores.json").read_text())
    return {
        "texts": {row["id"]: row["prediction"] for row in rows},
        "rougeL": scores["metrics"]["rougeL"]["mean"],
        "seconds": time.perf_counter() - since,
    }


# ---- writing ---------------------------------------------------------------------------------------------------------


def compare_writing(options: argparse.Namespace) -> bool:
    """Texts of `generate` and `corpus` on one GPU, each command on one of its own at the same time, then on all.

    Seconds are of the whole command, and of the writing alone as the first rank says it: models are loaded by then.
    """
    source = options.work / "texts.jsonl"
    write_texts(options.source, source, options.texts)
    print("| command | precision | texts | equal | s, one | s, all | ratio | s of writing, one | all | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    passed, idle = [], queue.SimpleQueue[int]()
    for number in range(options.devices):
        idle.put(number)
    with ThreadPoolExecutor(options.devices) as pool:
        ones = list(pool.map(lambda name: write(options, source, *COMMANDS[name], 1, idle), options.commands))
    for name, one in zip(options.commands, ones, strict=True):
        command, precision = COMMANDS[name]
        every = write(options, source, command, precision, options.devices)
        equal = sum(text == one["texts"].get(key) for key, text in every["texts"].items())
        passed.append(precision == "bf16" or equal == len(one["texts"]) > 0)
        cells = [
            cell
            for name in ("seconds", "writing_s")
            for cell in (f"{one[name]:.1f}", f"{every[name]:.1f}", f"{one[name] / every[name]:.2f}")
        ]
        print_row(command, precision, len(one["texts"]), equal, *cells)
    return all(passed)


def write_texts(source: str, path: Path, count: int) -> None:
    """The rows' responses, then the last three quarters of their words, and so on."""
    texts = [text.split() for text in load_examples(source)[0].texts("response")]
    ends = (" ".join(words[len(words) * cut // 4 :]) for cut in range(4) for words in texts if len(words) >= 20)
    rows = ({"id": f"text-{number}", "response": end} for number, end in enumerate(itertools.islice(ends, count)))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write(
    options: argparse.Namespace,
    source: Path,
    command: str,
    precision: str,
    devices: int,
    idle: queue.SimpleQueue[int] | None = None,
) -> dict[str, Any]:
    """Runs the command on all GPUs, or on one of those that are idle. -> its texts and seconds."""
    number = idle.get() if idle else None
    environment = os.environ | ({} if number is None else {"CUDA_VISIBLE_DEVICES": str(number)})
    run, output = options.work / options.evaluated, options.work / f"{command}-{precision}-{devices}"
    written = output.with_suffix(".jsonl") if command == "generate" else output / "scored.jsonl"
    by_command = {
        "generate": [run, source, "--output", written, "--pick", "greedy"],
        "corpus": [source, output, "--column", "response", "--run", run, "--samples", 2],
    }
    line = [sys.executable, "-m", "revinst.cli", command, *by_command[command], "--precision", precision]
    line += ["--max_new_tokens", options.max_new_tokens, "--devices", devices]
    since = time.perf_counter()
    done = subprocess.run(
        list(map(str, line)), capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment
    )
    seconds = time.perf_counter() - since
    if idle and number is not None:
        idle.put(number)
    output.with_suffix(".log").write_text(done.stdout + done.stderr)
    if (
        not written.is_file()
    ):  # `corpus` may end with exit code 2: filters may keep no pair of a model that learnt little
        sys.exit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}\n{command}: exit code {done.returncode}")
    rows = [json.loads(row) for row in written.read_text().splitlines()]
    texts = {row["id"]: row["prediction" if command == "generate" else "instruction"] for row in rows}
    said = re.findall(r"\d of [\d,]+ in (?:(\d+) min ?)?(?:([\d.]+) s)?", done.stderr)
    writing_s = max(60 * int(minutes or 0) + float(rest or 0) for minutes, rest in said)
    return {"texts": texts, "seconds": seconds, "writing_s": writing_s}


PARTS = {
    "speed": compare_speed,
    "kill": kill_a_rank,
    "restart": restart_ranks,
    "evaluate": compare_evaluations,
    "write": compare_writing,
}

if __name__ == "__main__":
    main()
