"""A rank that does nothing until its time has come. Run by test_agent.py through the agent.

usage: ending.py WHAT RANK: fail, mistake, kill or wait, of that rank (`all` of them); the others end in order.
       listen: signals are counted, the third second ends it
"""

import os
import signal
import sys
import time


def main() -> None:
    what, who, rank = sys.argv[1], sys.argv[2], os.environ["RANK"]
    print(f"rank {rank} starts", flush=True)
    if what == "listen":
        seen = []
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(name, lambda signum, _: seen.append(signum))
        print("listening", flush=True)
        for _ in range(30):
            time.sleep(0.1)
        print(f"seen {seen}", file=sys.stderr, flush=True)
        sys.exit(143 if rank == who else 0)
    if who not in (rank, "all"):
        time.sleep(60 if what != "end" else 0.2 * int(rank))
    if what == "fail":
        sys.exit("Traceback: no room")
    if what == "mistake":
        time.sleep(0.2 * (2 - int(rank)))  # the first one last
        print("revinst: no such file", file=sys.stderr)
        sys.exit(2)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
