"""Several processes, one for each device, that share the rows of `evaluate` and `generate`.

`--devices N` starts them on this machine; torchrun starts them anywhere. Each loads the model for itself, so
nothing crosses ranks but rows and results, as Python objects over gloo.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from typing import Any, TypeVar

from revinst.errors import UserError

T = TypeVar("T")
RANK_VARIABLES = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")  # of torchrun, srun and Lightning; the first's: 0
TIMEOUT = timedelta(days=7)  # a rank may wait long for a slower one; one that died is noticed at once


def is_first_process() -> bool:
    """Whether no launcher has given this process another rank than the first. Asks its environment alone."""
    return all(os.environ.get(name, "0") == "0" for name in RANK_VARIABLES)


class Ranks:
    """This process among all of them. One process alone has rank 0 of 1, and no process group."""

    def __init__(self, rank: int = 0, world_size: int = 1):
        self.rank, self.world_size = rank, world_size

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """Every `world_size`-th, so that each rank gets as many long rows as another."""
        return list(items[self.rank :: self.world_size])

    def gather(self, share: list[T]) -> list[T]:
        """What `share` took apart, each item replaced by a result, in the order of all; on every rank."""
        parts = self.gather_all(share)
        whole = [item for part in parts for item in part]
        for rank, part in enumerate(parts):
            whole[rank :: self.world_size] = part
        return whole

    def gather_all(self, item: T) -> list[T]:
        """Every rank's item, in their order, on every rank."""
        if self.world_size == 1:
            return [item]
        import torch.distributed as dist

        items = [item] * self.world_size
        dist.all_gather_object(items, item)
        return items

    def wait(self) -> None:
        """For all ranks to come here."""
        self.gather([])

    def on_first(self, work: Callable[[], T]) -> T:
        """The result of work that the first rank does alone, on every rank. Its UserError is raised on all."""
        if self.world_size == 1:
            return work()
        import torch.distributed as dist

        message: list[Any] = [None, None]
        if self.is_first:
            try:
                message[0] = work()
            except (UserError, OSError) as error:
                message[1] = str(error)
        dist.broadcast_object_list(message, src=0)
        if message[1] is not None:
            raise UserError(message[1])
        return message[0]


@contextmanager
def open_ranks() -> Iterator[Ranks]:
    """The ranks that torchrun or `launch` started, as their environment says; only the first one prints."""
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "RANK" not in os.environ:
        raise UserError("srun started several tasks, and each would do all rows: start one a machine, with torchrun")
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1 or "MASTER_ADDR" not in os.environ:
        yield Ranks()
        return
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("gloo", rank=rank, world_size=world_size, timeout=TIMEOUT)
    try:
        if rank == 0:
            yield Ranks(rank, world_size)
        else:
            with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield Ranks(rank, world_size)
    finally:
        dist.destroy_process_group()


def run_command(command: str, *args: object) -> int:
    """`revinst COMMAND ARGS` in a process of its own; its exit code. A signal to stop lets that one stop first.

    `fit` runs so out of other commands: Lightning starts further ranks by the command line of the first process, and
    leaves its job in that one's environment.
    """
    process = subprocess.Popen([sys.executable, "-m", "revinst.cli", command, *map(str, args)])
    with ending([process]):
        code = process.wait()
    if code < 0:
        print(f"revinst {command} ended with {describe_exit(code)}", file=sys.stderr)
    return code if code >= 0 else 128 - code


@contextmanager
def ending(processes: Sequence[subprocess.Popen]) -> Iterator[None]:
    """Processes that do not outlive the body. What tells this one to stop lets them stop first."""
    names = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
    before = {name: signal.signal(name, lambda *_: sys.exit(143)) for name in names}
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        for name, handler in before.items():
            signal.signal(name, handler)


def launch(command: str, args: list[str], devices: int) -> int:
    """Runs `revinst COMMAND ARGS`, which asks for so many devices, once for each of them. Returns the first exit code
    that is not 0, and ends the others then.

    What ranks other than the first write is shown only when one of them is the first to fail. SIGTERM ends them too.
    """
    if "RANK" in os.environ:
        raise UserError(f"--devices {devices}: torchrun has started the processes already; leave it out")
    check_devices(devices)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"WORLD_SIZE": str(devices), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with tempfile.TemporaryFile() as log:
        processes = []
        for rank in range(devices):
            environment = os.environ | job | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            output = {"stdout": log, "stderr": log} if rank else {}
            line = [sys.executable, "-m", "revinst.cli", command, *without_devices(args)]
            processes.append(subprocess.Popen(line, env=environment, **output))  # type: ignore[call-overload]
        with ending(processes):
            failed = wait_for(processes)
        if failed is None:
            return 0
        code = processes[failed].returncode
        if failed:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-4000:])
            print(f"revinst {command}: rank {failed} ended with {describe_exit(code)}", file=sys.stderr)
        return code if code > 0 else 1


def check_devices(devices: int) -> None:
    """Raises UserError for more GPUs than the machine has."""
    import torch

    there = torch.cuda.device_count()
    if devices < 1 or (there and devices > there):
        raise UserError(f"--devices {devices}: this machine has {there} GPUs" if there else "--devices: at least 1")


def without_devices(args: list[str]) -> list[str]:
    """The command line of one of the processes that --devices starts.

    >>> without_devices(["RUN", "--devices", "2", "--limit", "3"])
    ['RUN', '--limit', '3', '--devices', '1']
    """
    kept = [arg for arg in args if not arg.startswith("--devices=")]
    if "--devices" in kept:
        place = kept.index("--devices")
        del kept[place : place + 2]
    return [*kept, "--devices", "1"]


def wait_for(processes: list[subprocess.Popen]) -> int | None:
    """The rank that failed first, the first one of several; None when all have ended well."""
    while True:
        codes = [process.poll() for process in processes]
        if any(codes):
            time.sleep(1)  # the same mistake ends all of them: let the first one say it
            return next(rank for rank, process in enumerate(processes) if process.poll())
        if all(code == 0 for code in codes):
            return None
        time.sleep(0.1)


def describe_exit(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
