"""Ranks of this machine on torch's elastic agent: started, watched, told of signals, ended together, started again."""

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std

from revinst.errors import UserError
from revinst.launch.heartbeat import SHOW_STACK, RankFiles, Watch
from revinst.launch.one_machine import OneMachine, ranks_environment
from revinst.launch.ranks import STOP_SIGNALS, check_processes, describe_exit

LINE = ("-m", "revinst.cli")
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has no SIGKILL
STOPPED = (143, 130)
SAY_S = 5.0  # after a rank's error: a mistake that all make is the first one's to say
STOP_S = 30  # after a stop: the others were told too


@dataclass(frozen=True)
class Failure:
    """The rank that failed first, and its exit code, below 0 for a signal.

    step: at which, None before training. rows: that step's, where a rank had died at it before. stacks: of ranks that
    hung, by rank.
    """

    rank: int
    code: int
    reason: str
    step: int | None = None
    rows: list[str] = field(default_factory=list)
    stacks: dict[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"rank {self.rank} {self.reason}" + (f" at step {self.step}" if self.step is not None else "")


class Verdict(NamedTuple):
    """After a failure. again: further arguments to start all ranks again with; None: they are not."""

    again: list[str] | None = None
    note: str = ""


Mend = Callable[[Failure], Verdict]


class Agent(LocalElasticAgent):
    """Runs `revinst COMMAND ARGS` in each rank. What ranks other than the first print goes to files of `folder`.

    mend: is asked after each failure that is neither the user's mistake nor a stop.
    """

    def __init__(self, args: list[str], devices: int, folder: Path, mend: Mend | None = None, max_restarts: int = 0):
        spec = WorkerSpec(
            role="revinst",
            local_world_size=devices,
            entrypoint=sys.executable,
            args=for_torch([*LINE, *args]),
            rdzv_handler=OneMachine(folder),
            max_restarts=max_restarts,
        )
        super().__init__(spec, DefaultLogsSpecs(str(folder), dict.fromkeys(range(1, devices), Std.ALL)))
        self.command, self.mend = args[0], mend
        self.files = [RankFiles(folder, rank) for rank in range(devices)]
        self.failure: Failure | None = None
        self.stop_signal = 0

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        self.failure, self.watch = None, Watch(self.files, worker_group.spec.monitor_interval)
        ids = super()._start_workers(worker_group)
        for name in STOP_SIGNALS:
            signal.signal(name, self.forward)  # torch's would give the ranks 30 s and end with a traceback
        if self.stop_signal:  # it came between two starts
            self.send(self.stop_signal)
        return ids

    def forward(self, signum: int, frame: FrameType | None) -> None:
        """To every rank; they finish their step and save in the time that it takes."""
        self.stop_signal = signum
        self.send(signum)

    def send(self, signum: int) -> None:
        for process in self.processes:
            process.send_signal(signum)

    @property
    def processes(self) -> list[Any]:
        return [handler.proc for handler in self._pcontext.subprocess_handlers.values()]  # type: ignore[union-attr]

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        codes = [process.poll() for process in self.processes]
        if any(codes):
            self.failure = self.end_after(*first_failure(codes))
        elif None in codes:
            if (rank := self.watch.find_hung()) is None:
                return RunResult(state=WorkerState.HEALTHY)
            self.failure = self.end_hung(rank)
        if self.failure:
            self.decide(self.failure, worker_group.spec)
        return super()._monitor_workers(worker_group)  # all have ended

    def end_after(self, rank: int, code: int) -> Failure:
        """Ends the other ranks. Where the first one fails alike, the failure is its."""
        has_stopped = code in STOPPED
        deadline = time.monotonic() + (0 if code < 0 else STOP_S if has_stopped else SAY_S)
        while time.monotonic() < deadline and None in (codes := [process.poll() for process in self.processes]):
            if codes[0] is not None and not has_stopped:
                break
            time.sleep(0.05)
        first = self.processes[0].poll()
        self._pcontext.close(KILL, STOP_S)  # type: ignore[union-attr]
        rank = 0 if first == code else rank
        beat = self.files[rank].read_beat()
        reason = f"ended with {describe_exit(code)}"
        return Failure(rank, code, reason, beat.step if beat else None, self.read_rows())

    def end_hung(self, rank: int) -> Failure:
        """Ends all ranks, once their stacks are written; one that a signal had stopped goes on for that moment."""
        waited_s, beat = self.watch.waited_s[rank], self.watch.seen[rank]
        if SHOW_STACK:
            self.send(SHOW_STACK)
            self.send(signal.SIGCONT)
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline and not all(files.read_stack() for files in self.files):
                time.sleep(0.01)
        self.end_after(rank, -KILL)
        stacks = {number: files.read_stack() for number, files in enumerate(self.files)}
        reason = f"has not moved for {waited_s:.0f} s"
        return Failure(rank, 1, reason, beat.step if beat else None, self.read_rows(), stacks)

    def read_rows(self) -> list[str]:
        return [row for files in self.files for row in files.read_rows()]

    def decide(self, failure: Failure, spec: WorkerSpec) -> None:
        """Whether all start again; says so, and why."""
        verdict = Verdict()
        if self.mend and not self.stop_signal and failure.code not in (2, *STOPPED):
            verdict = self.mend(failure)
        self.report(failure, verdict.note)
        if verdict.again is None:
            self._remaining_restarts = 0
            return
        spec.args = (*spec.args, *for_torch(verdict.again))
        for files in self.files:
            files.forget()
        if failure.step is not None:
            self.files[0].died_at.write_bytes(b"%d" % failure.step)

    def report(self, failure: Failure, note: str) -> None:
        """What the first rank has not said itself."""
        has_spoken = failure.rank == 0 and failure.code > 0 and not failure.stacks
        if self.has_obeyed(failure) or (has_spoken and not note):
            return
        if failure.rank:
            log = Path(self._pcontext.stderrs[failure.rank]).read_bytes()  # type: ignore[union-attr]
            sys.stderr.write(log.decode(errors="replace")[-4000:])
        print(f"revinst {self.command}: {failure}{note}", file=sys.stderr)

    def has_obeyed(self, failure: Failure) -> bool:
        """Whether it is the stop that all were told; a rank that can't listen yet ends by the signal itself."""
        return self.stop_signal > 0 and failure.code in (-self.stop_signal, *STOPPED)

    @property
    def exit_code(self) -> int:
        if self.failure is None or self.failure.code > 0:
            return self.failure.code if self.failure else 0
        return STOP_SIGNALS[signal.Signals(self.stop_signal)] if self.has_obeyed(self.failure) else 1


def for_torch(args: list[str]) -> tuple[str, ...]:
    """torch replaces `${local_rank}` in arguments, and $$ by $."""
    return tuple(arg.replace("$", "$$") for arg in args)


def first_failure(codes: list[int | None]) -> tuple[int, int]:
    """(rank, code) of the lowest rank that failed; but one that a signal ended has made the others fail."""
    _, rank, code = min((code > 0, rank, code) for rank, code in enumerate(codes) if code)
    return rank, code


def launch(command: str, args: list[str], devices: int, mend: Mend | None = None, max_restarts: int = 0) -> int:
    """Runs `revinst COMMAND ARGS` once for each device of this machine. Returns the first exit code that is not 0."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # its report beside our line
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="revinst-") as folder, ranks_environment(folder), kept_handlers():
        agent = Agent([command, *args], devices, Path(folder), mend, max_restarts)
        try:
            agent.run()
        except SignalException as stopped:  # while it started them
            return STOP_SIGNALS[stopped.sigval]
    return agent.exit_code


@contextmanager
def kept_handlers() -> Iterator[None]:
    before = {name: signal.getsignal(name) for name in STOP_SIGNALS}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def check_devices(devices: int) -> None:
    """Raises UserError for more GPUs than the machine has, and where torchrun has started ranks."""
    if "RANK" in os.environ:
        raise UserError(f"--devices {devices}: torchrun has started the processes already; leave it out")
    there = torch.cuda.device_count()
    if devices < 1 or (there and devices > there):
        raise UserError(f"--devices {devices}: this machine has {there} GPUs" if there else "--devices: at least 1")
    if not there:
        check_processes("--devices", devices)
