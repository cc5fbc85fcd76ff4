"""Ranks of this machine on torch's elastic agent: started, watched, told of signals and ended together.

torch's own rendezvous listens on all addresses (TCPStore does, for 127.0.0.1 too). Here ranks meet by files in a folder
that nobody else may read, and gloo and NCCL are told the loopback device: nothing can be reached from outside.
"""

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import torch
from torch.distributed import FileStore
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from revinst.errors import UserError
from revinst.launch.ranks import AGENT, AGENT_FOLDER, STOP_SIGNALS, describe_exit

LINE = ("-m", "revinst.cli")
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has no SIGKILL
STOPPED = (143, 130)
SAY_S = 5.0  # after a rank's error: a mistake that all make is the first one's to say
STOP_S = 30  # after a stop: the others were told too


class OneMachine(RendezvousHandler):
    """A rendezvous of one agent: there is nobody to wait for."""

    use_agent_store = False

    def __init__(self, folder: Path):
        self.store = FileStore(str(folder / "agent"), 1)

    def next_rendezvous(self) -> RendezvousInfo:
        return RendezvousInfo(self.store, 0, 1, RendezvousStoreInfo("127.0.0.1", 0))  # ranks use no port

    def get_backend(self) -> str:
        return "file"

    def get_run_id(self) -> str:
        return "revinst"

    def num_nodes_waiting(self) -> int:
        return 0

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None: ...

    def shutdown(self) -> bool:
        return True


@dataclass(frozen=True)
class Failure:
    """The rank that failed first, and its exit code, below 0 for a signal."""

    rank: int
    code: int

    @property
    def exit_code(self) -> int:
        return self.code if self.code > 0 else 1


class Agent(LocalElasticAgent):
    """Runs `revinst COMMAND ARGS` in each rank. What ranks other than the first print goes to files of `folder`."""

    def __init__(self, args: list[str], devices: int, folder: Path):
        spec = WorkerSpec(
            role="revinst",
            local_world_size=devices,
            entrypoint=sys.executable,
            args=tuple(part.replace("$", "$$") for part in (*LINE, *args)),  # torch fills in `${local_rank}`
            rdzv_handler=OneMachine(folder),
            max_restarts=0,
        )
        super().__init__(spec, DefaultLogsSpecs(str(folder), dict.fromkeys(range(1, devices), Std.ALL)))
        self.failure: Failure | None = None
        self.stop_signal = 0

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        ids = super()._start_workers(worker_group)
        for name in STOP_SIGNALS:
            signal.signal(name, self.forward)  # torch's would give the ranks 30 s and end with a traceback
        return ids

    def forward(self, signum: int, frame: FrameType | None) -> None:
        """To every rank; they finish their step and save in the time that it takes."""
        self.stop_signal = signum
        for process in self.processes:
            process.send_signal(signum)

    @property
    def processes(self) -> list[Any]:
        return [handler.proc for handler in self._pcontext.subprocess_handlers.values()]  # type: ignore[union-attr]

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        codes = [process.poll() for process in self.processes]
        if any(codes):
            self.failure = self.end_after(first_failure(codes))
        elif None in codes:
            return RunResult(state=WorkerState.HEALTHY)
        return super()._monitor_workers(worker_group)  # all have ended

    def end_after(self, failure: Failure) -> Failure:
        """Ends the other ranks. Returns the failure, as the first rank's where that one fails alike."""
        has_stopped = failure.code in STOPPED
        deadline = time.monotonic() + (0 if failure.code < 0 else STOP_S if has_stopped else SAY_S)
        while time.monotonic() < deadline and None in (codes := [process.poll() for process in self.processes]):
            if codes[0] is not None and not has_stopped:
                break
            time.sleep(0.05)
        first = self.processes[0].poll()
        self._pcontext.close(KILL, STOP_S)  # type: ignore[union-attr]
        return Failure(0, first) if first == failure.code else failure

    def report(self, command: str) -> None:
        """What the first rank has not said itself."""
        failure = self.failure
        if failure is None or self.stop_signal or (failure.rank == 0 and failure.code > 0):
            return
        if failure.rank:
            log = Path(self._pcontext.stderrs[failure.rank]).read_bytes()  # type: ignore[union-attr]
            sys.stderr.write(log.decode(errors="replace")[-4000:])
        print(f"revinst {command}: rank {failure.rank} ended with {describe_exit(failure.code)}", file=sys.stderr)

    @property
    def exit_code(self) -> int:
        if self.failure is None:
            return 0
        if self.stop_signal and self.failure.code < 0:  # a rank that was told before it could listen
            return STOP_SIGNALS[signal.Signals(self.stop_signal)]
        return self.failure.exit_code


def first_failure(codes: list[int | None]) -> Failure:
    """The lowest rank's; but a rank that a signal ended has made the others fail."""
    failed = [(code > 0, rank, code) for rank, code in enumerate(codes) if code]
    _, rank, code = min(failed)
    return Failure(rank, code)


def launch(command: str, args: list[str], devices: int) -> int:
    """Runs `revinst COMMAND ARGS` once for each device of this machine. Returns the first exit code that is not 0."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # its report beside our line
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="revinst-") as folder, ranks_environment(folder), kept_handlers():
        agent = Agent([command, *args], devices, Path(folder))
        try:
            agent.run()
        except SignalException as stopped:  # while it started them
            return STOP_SIGNALS[stopped.sigval]
        agent.report(command)
    return agent.exit_code


@contextmanager
def ranks_environment(folder: str) -> Iterator[None]:
    """For ranks, which inherit it."""
    loopback = loopback_device()
    names = {
        AGENT: str(os.getpid()),
        AGENT_FOLDER: folder,
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": f"={loopback}",  # without the `=` a prefix
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGTERM",  # not SIGHUP, which nohup has set aside
    }
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: value for name, value in names.items() if value.strip("=")})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def kept_handlers() -> Iterator[None]:
    before = {name: signal.getsignal(name) for name in STOP_SIGNALS}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def loopback_device() -> str:
    """`lo` on Linux, `lo0` on macOS."""
    devices = psutil.net_if_addrs().items()
    return next((name for name, all_of in devices if any(each.address == "127.0.0.1" for each in all_of)), "")


def check_devices(devices: int) -> None:
    """Raises UserError for more GPUs than the machine has."""
    there = torch.cuda.device_count()
    if devices < 1 or (there and devices > there):
        raise UserError(f"--devices {devices}: this machine has {there} GPUs" if there else "--devices: at least 1")
