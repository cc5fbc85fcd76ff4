"""A rank that dies ends all ranks, with its reason, in seconds.

Collectives alone would wait for it: NCCL's until a timeout of many minutes, and that timeout can't be short, because
a rank may rightly wait for the first one to write a checkpoint. Here each rank keeps one connection to the first one
open. The kernel closes it when a process dies, however it dies, and keep-alive probes do for a machine that is lost.
"""

import os
import socket
import threading
import time
from collections.abc import Callable

DONE = "done"
USER_ERROR = " failed: UserError: "  # in a reason: the user can mend it
CONNECT_S = 60.0
# A machine that says nothing for 10 s is asked 4 times, every 5 s.
KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


class RankWatch:
    """Watches the other ranks from a thread.

    Args:
        rank, world_size: this process among all.
        address: of the first rank's machine.
        broadcast: gives every rank the value of the first one; called once, on all.
        grace_s: between the reason and the end, for a main thread that is about to end by itself.
    """

    def __init__(
        self, rank: int, world_size: int, address: str, broadcast: Callable[[int], int], *, grace_s: float = 3.0
    ):
        self.rank, self.grace_s = rank, grace_s
        self.reason = ""
        self.connections: dict[int, socket.socket] = {}  # by the other end's rank
        self.is_finished = False
        self.lock = threading.Lock()
        if rank == 0:
            with socket.create_server(("", 0), backlog=world_size) as server:
                broadcast(server.getsockname()[1])
                server.settimeout(CONNECT_S)
                for _ in range(world_size - 1):
                    connection, _ = server.accept()
                    connection.settimeout(CONNECT_S)
                    self.connections[int(read_line(connection))] = connection
        else:
            connection = socket.create_connection((address, broadcast(0)), timeout=CONNECT_S)
            send_line(connection, str(rank))
            self.connections[0] = connection
        for other, connection in self.connections.items():
            keep_alive(connection)
            connection.settimeout(None)
            threading.Thread(target=self.listen, args=(other, connection), daemon=True, name="rank-watch").start()

    def listen(self, other: int, connection: socket.socket) -> None:
        """Until the other end says that it is done, or is gone."""
        while line := read_line(connection):
            if line == DONE:
                return
            self.end_all(line)
        if not self.is_finished:
            self.end_all(f"rank {other} is gone without a word: killed, out of memory, or its machine is lost")

    def end_all(self, reason: str) -> None:
        """Says why, here and to the others, and ends this process if it does not end by itself."""
        with self.lock:
            if self.reason or self.is_finished:
                return
            self.reason = reason
        if self.rank == 0 or reason.startswith("rank 0 is gone"):  # while it lives it speaks for itself
            os.write(2, f"\nrevinst: {reason}; all ranks end\n".encode())
        self.tell(reason)
        time.sleep(self.grace_s)
        os._exit(2 if USER_ERROR in reason else 1)

    def fail(self, reason: str) -> None:
        """This rank fails: the others shall know why. What fails because another rank did is not a reason.

        What all run into the first rank says: the others wait longer.
        """
        time.sleep(1 if self.rank else 0.3)
        with self.lock:
            if self.reason or self.is_finished:
                return
            self.is_finished = True
        self.tell(f"rank {self.rank} failed: {reason}")

    def close(self) -> None:
        """This rank is done."""
        with self.lock:
            if self.reason or self.is_finished:
                return
            self.is_finished = True
        self.tell(DONE)

    def tell(self, line: str) -> None:
        for connection in self.connections.values():
            try:
                send_line(connection, line)
            except OSError:
                continue  # the one that is gone


def send_line(connection: socket.socket, line: str) -> None:
    connection.sendall(" ".join(line.split()).encode() + b"\n")


def read_line(connection: socket.socket) -> str:
    """Without its end; "" when the other end is gone."""
    line = b""
    try:
        while not line.endswith(b"\n"):
            byte = connection.recv(1)
            if not byte:
                return ""
            line += byte
    except OSError:
        return ""
    return line.decode(errors="replace").strip()


def keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
