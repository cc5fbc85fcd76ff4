"""Nothing of a training can be reached from outside, and who connects from this machine does not disturb it."""

import contextlib
import ipaddress
import socket
import subprocess

import psutil
import pytest

from tests.survive.faults import assert_equal, state_of, write_rows
from tests.survive.two_ranks import start

pytestmark = pytest.mark.wide
GARBAGE = b"\xff" * 4096  # read as a length: 2**64 - 1 bytes will follow


def listening(process: subprocess.Popen) -> set[tuple[str, int]]:
    """Addresses of all processes of a training; local sockets have none."""
    found = set()
    with contextlib.suppress(psutil.Error):
        for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
            connections = each.net_connections("inet")
            found |= {tuple(each.laddr) for each in connections if each.status == psutil.CONN_LISTEN}
            found |= {tuple(each.laddr) for each in connections if each.type == socket.SOCK_DGRAM and each.laddr}
    return found


def test_strangers(tiny_llama, tmp_path):
    write_rows(tmp_path / "rows.jsonl")
    assert start(tmp_path, tiny_llama, "alone").wait(240) == 0, (tmp_path / "alone.log").read_text()[-3000:]
    process, seen, held = start(tmp_path, tiny_llama, "visited"), set(), []
    try:
        while process.poll() is None:
            for address in listening(process) - seen:
                seen.add(address)
                for said in (GARBAGE, b"", b"GET / HTTP/1.1\r\n\r\n"):
                    with contextlib.suppress(OSError):
                        stranger = socket.create_connection(address[:2], timeout=2)
                        stranger.sendall(said)
                        held.append(stranger)
    finally:
        process.kill()
    assert process.returncode == 0, (tmp_path / "visited.log").read_text()[-3000:]
    assert len(seen) >= 2 and len(held) >= 6, "a socket of gloo a rank"
    assert all(ipaddress.ip_address(address).is_loopback for address, _ in seen), seen
    assert_equal(state_of(tmp_path / "visited"), state_of(tmp_path / "alone"))
