"""Starts a script as two ranks of one job, over gloo on the CPU."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_ranks(script: Path, *args: object, world_size: int = 2) -> list[subprocess.Popen]:
    """One process a rank, as two nodes of one device each."""
    port, command = free_port(), [sys.executable, str(script), *map(str, args)]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            command,
            env=environment | {"NODE_RANK": str(rank), "RANKS": str(world_size)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(world_size)
    ]


def run_ranks(script: Path, *args: object, world_size: int = 2, timeout: float = 180) -> list[str]:
    """What each rank printed. Fails unless all ended with 0."""
    ranks = start_ranks(script, *args, world_size=world_size)
    outputs = [rank.communicate(timeout=timeout)[0].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * world_size, "\n".join(outputs)[-4000:]
    return outputs
