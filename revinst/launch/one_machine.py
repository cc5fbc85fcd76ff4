"""How ranks of one machine meet, with nothing that can be reached from outside.

torch's own rendezvous listens on all addresses (TCPStore does, for 127.0.0.1 too). Here they meet by files in a folder
that nobody else may read, and gloo and NCCL are told the loopback device.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from torch.distributed import FileStore
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from revinst.launch.ranks import AGENT, AGENT_FOLDER


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


def loopback_device() -> str:
    """`lo` on Linux, `lo0` on macOS."""
    devices = psutil.net_if_addrs().items()
    return next((name for name, all_of in devices if any(each.address == "127.0.0.1" for each in all_of)), "")
