"""This process among the ranks that our agent, torchrun or srun started: who is first, how they meet and share.

The ranks of `evaluate` and `generate` load the model each for itself, so nothing crosses ranks but rows and results, as
Python objects over gloo.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from revinst.errors import UserError
from revinst.system import count_processors

PROCESSES_A_PROCESSOR = 4  # at most, without a GPU
T = TypeVar("T")
RANK_VARIABLES = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")  # of torchrun, srun and Lightning; the first's: 0
# In the environment of our own agent's ranks alone: its process id, and the folder where they find each other.
AGENT, AGENT_FOLDER = "REVINST_AGENT", "REVINST_AGENT_FOLDER"
# All that says to a process that it is a rank; a command that one starts is none.
OF_A_RANK = re.compile(f"{AGENT}.*|((GROUP_|LOCAL_|ROLE_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_.*|TORCHELASTIC_.*)")
STOP_SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130}  # and the exit code of what they stop
if hasattr(signal, "SIGUSR1"):  # SLURM's; not on Windows
    STOP_SIGNALS[signal.SIGUSR1] = 143
TIMEOUT = timedelta(days=7)  # a rank may wait long for a slower one; one that died is noticed at once


def is_first_process() -> bool:
    """Whether no launcher has given this process another rank than the first. Asks its environment alone."""
    return all(os.environ.get(name, "0") == "0" for name in RANK_VARIABLES)


def is_of_agent() -> bool:
    """Whether our own agent started this rank. It shows what others than the first print only where they fail first."""
    return AGENT in os.environ


def follow_agent() -> None:
    """A rank is told to stop when its agent is gone, however it died (Linux)."""
    if not is_of_agent():
        return
    from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]

    _prctl_pr_set_pdeathsig(signal.SIGTERM)
    if os.getppid() != int(os.environ[AGENT]):
        sys.exit(143)  # it was gone before


@contextmanager
def process_group(backend: str, **options: Any) -> Iterator[None]:
    """The group of all ranks: those of our agent meet by a file, others as their launcher says.

    It is left in order alone: after an error NCCL's would wait for ranks that are gone.
    """
    import torch.distributed as dist

    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if is_of_agent():
        meeting = Path(os.environ[AGENT_FOLDER]) / f"ranks-{os.environ['TORCHELASTIC_RESTART_COUNT']}"
        options["store"] = dist.FileStore(str(meeting), world_size)
    dist.init_process_group(backend, rank=rank, world_size=world_size, **options)
    yield
    dist.destroy_process_group()


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
    """The ranks that torchrun or our agent started, as their environment says; only the first one prints."""
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "RANK" not in os.environ:
        raise UserError("srun started several tasks, and each would do all rows: start one a machine, with torchrun")
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1 or "MASTER_ADDR" not in os.environ:
        yield Ranks()
        return
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    with process_group("gloo", timeout=TIMEOUT):
        if rank == 0:
            yield Ranks(rank, world_size)
        else:
            with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield Ranks(rank, world_size)


def run_command(command: str, *args: object) -> int:
    """`revinst COMMAND ARGS` in a process of its own, which is no rank; its exit code. A signal to stop lets that one
    stop first.
    """
    environment = {name: value for name, value in os.environ.items() if not OF_A_RANK.fullmatch(name)}
    line = [sys.executable, "-m", "revinst.cli", command, *map(str, args)]
    process = subprocess.Popen(line, env=environment)
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


def describe_exit(code: int) -> str:
    """
    >>> describe_exit(-9)
    'SIGKILL: killed, or out of memory'
    """
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}: killed, or out of memory" if name == "SIGKILL" else name


def check_processes(name: str, devices: int) -> None:
    """Raises UserError for more processes without a GPU than a machine survives: each loads PyTorch and a model."""
    most = PROCESSES_A_PROCESSOR * count_processors()
    if devices > most:
        raise UserError(
            f"{name} {devices}: {count_processors()} processors without a GPU take {most} processes at most"
        )
