"""Training speeds that differ by little: variants of bench_training.py, or checkouts of revinst, step in turn.

usage: bench_turns.py --base FOLDER|SHAPE --source FILE [--steps N] [--rounds N] NAME=VARIANT[@CHECKOUT] ...

Each is a process of its own with its model on the one device; all load at once, then one trains a few steps while the
others wait. So a clock that drops, or a busy host, meets all alike, and each round gives a ratio to the first named:
their median is printed with its 95 % interval. The first round is warm-up. Memory must hold all of them together.
A peer's variant takes no checkout.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_training import SEQ_LEN, VARIANTS, Clock, measure_ours, measure_peer
from shapes import base_folder

from revinst.options import Parser


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("contenders", nargs="+", metavar="NAME=VARIANT[@CHECKOUT]")
    parser.add_argument("--base", required=True, help="a folder, or a shape of shapes.py, made with random weights")
    parser.add_argument("--tokenizer", type=Path, help="folder of the tokenizer of a base that is made")
    parser.add_argument("--like", help="give a base that is made the sizes of another shape")
    parser.add_argument("--source", required=True)
    parser.add_argument("--config", default="configs/llama2-7b.yaml")
    parser.add_argument("--steps", type=int, default=3, help="in a turn")
    parser.add_argument("--rounds", type=int, default=8, help="after the warm-up")
    parser.add_argument("--peer_batch", type=int, default=4, help="rows of 2,048 a forward of TRL and Unsloth")
    parser.add_argument("--seq_len", type=int, default=SEQ_LEN, help="tokens a row")
    parser.add_argument("--timeout_s", type=int, default=540, help="of all together")
    parser.add_argument("--out", type=Path, help="file for the seconds of each step")
    parser.add_argument("--turn", help="of a worker: its number, those there are and the folder")
    options = parser.parse_args()
    if options.turn:
        work(options)
        return
    made = base_folder(options.base, options.tokenizer, options.like)
    with tempfile.TemporaryDirectory() as folder, made as options.base:
        found = run_in_turn(options, Path(folder))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    print_table(options, found)


def run_in_turn(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """Starts a worker for each and waits for all; one that fails ends the others. -> name -> what it measured."""
    (folder / "turn").write_text("0")
    workers = []
    for number, contender in enumerate(options.contenders):
        name, what = contender.split("=", 1)
        variant, _, checkout = what.partition("@")
        given = {
            "base": options.base, "source": options.source, "config": options.config, "steps": options.steps,
            "rounds": options.rounds, "peer_batch": options.peer_batch, "seq_len": options.seq_len,
            "turn": f"{number},{len(options.contenders)},{folder}",
        }  # fmt: skip
        command = [sys.executable, __file__, f"{name}={variant}"]
        command += [part for key, value in given.items() for part in (f"--{key}", str(value))]
        path = os.pathsep.join(filter(None, [checkout, os.environ.get("PYTHONPATH", "")]))
        log = (folder / f"{number}.log").open("w")
        workers.append(subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=log, stderr=log))
    end = time.monotonic() + options.timeout_s
    while any(worker.poll() is None for worker in workers) and time.monotonic() < end:
        if any(worker.poll() for worker in workers):
            break
        time.sleep(0.5)
    failed = next((number for number, worker in enumerate(workers) if worker.poll()), None)
    for worker in workers:
        worker.kill()
        worker.wait()
    if failed is not None:
        text, code = (folder / f"{failed}.log").read_text(), workers[failed].returncode
        raise SystemExit(f"{options.contenders[failed]} ended with exit code {code}:\n{text[-1500:]}")
    found: dict[str, dict[str, Any]] = {}
    for number, contender in enumerate(options.contenders):
        text = (folder / f"{number}.log").read_text()
        lines = [line for line in text.splitlines() if line.startswith("RESULT ")]
        if not lines:
            raise SystemExit(f"{contender} gave no result:\n{text[-1500:]}")
        found[contender.split("=")[0]] = json.loads(lines[-1][7:])
    return found


class TurnClock(Clock):
    """Waits for the turn before the first of its steps; passes it on after the last."""

    def __init__(self, steps: int, turns: int, place: str):
        super().__init__()
        number, workers, folder = place.split(",", 2)
        self.number, self.next = int(number), (int(number) + 1) % int(workers)
        self.steps, self.last, self.file = steps, steps * turns, Path(folder) / "turn"

    def begin(self) -> None:
        if len(self.seconds) % self.steps == 0 and len(self.seconds) < self.last:
            while self.file.read_text() != str(self.number):
                time.sleep(0.002)
        super().begin()

    def end(self) -> None:
        super().end()
        if len(self.seconds) % self.steps == 0 and len(self.seconds) <= self.last:
            written = self.file.with_suffix(f".{self.number}")
            written.write_text(str(self.next))
            written.replace(self.file)


def work(options: argparse.Namespace) -> None:
    """One contender; prints its seconds and tokens of a step and the GiB that it took."""
    import lightning.pytorch as lightning
    import torch

    variant = VARIANTS[options.contenders[0].split("=", 1)[1]]
    options.worker = options.contenders[0].split("=", 1)[1]
    options.warmup, turns = 0, options.rounds + 2  # the first is warm-up, the last saves the adapter
    clock = TurnClock(options.steps, turns, options.turn)
    options.steps *= turns
    rows: list[int] = []

    class Steps(lightning.Callback):
        def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
            rows.append(trainer.datamodule.settings.rows_per_step)  # type: ignore[attr-defined]

        def on_train_batch_start(self, *args: Any) -> None:
            clock.begin()

        def on_train_batch_end(self, *args: Any) -> None:
            clock.end()

    fit = lightning.Trainer.fit

    def with_clock(self: Any, *args: Any, **keys: Any) -> None:
        self.callbacks.append(Steps())
        fit(self, *args, **keys)

    lightning.Trainer.fit = with_clock  # type: ignore[method-assign]
    if "gc" in variant:
        speeds, loss, _ = measure_peer(options, variant, clock)
        tokens = round(speeds[0] * clock.seconds[0])
    else:
        _, loss, _ = measure_ours(options, variant)
        tokens = rows[0] * options.seq_len
    gib = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    print("RESULT " + json.dumps({"seconds": clock.seconds, "tokens": tokens, "loss": loss, "gib": gib}), flush=True)


def print_table(options: argparse.Namespace, found: dict[str, dict[str, Any]]) -> None:
    """Medians over rounds: tokens/s, and the ratio of speeds to the first, round by round."""
    first: list[float] = []
    print(f"{options.rounds} rounds of {options.steps} steps in turn")
    print("| what | tokens/s | ratio to the first [95 %] | slowest round | allocated GiB | loss |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, result in found.items():
        turns = [result["seconds"][options.steps * turn :][: options.steps] for turn in range(1, options.rounds + 1)]
        speeds = [options.steps * result["tokens"] / sum(turn) for turn in turns]
        first = first or speeds
        ratios = sorted(one / other for one, other in zip(speeds, first, strict=True))
        outer = outer_rounds(len(ratios))
        interval = f"{statistics.median(ratios):.4f} [{ratios[outer]:.4f}, {ratios[-1 - outer]:.4f}]"
        slowest = f"{min(speeds) / statistics.median(speeds):.3f}"
        speed = f"{statistics.median(speeds):,.0f}"
        print(f"| {name} | {speed} | {interval} | {slowest} | {result['gib']:.1f} | {result['loss']:.4f} |")


def outer_rounds(rounds: int) -> int:
    """How many of the lowest and of the highest lie outside the 95 % interval of a median, whatever the distribution:
    the sign test's, so that one round disturbed by something else does not widen it."""
    total, outside = 0.0, 0
    while 2 * (total := total + math.comb(rounds, outside) / 2**rounds) <= 0.05:
        outside += 1
    return max(0, outside - 1)


if __name__ == "__main__":
    main()
