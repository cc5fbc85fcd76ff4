"""One rank of three that do nothing until one of them dies. Run by test_watch.py.

usage: watched.py RANK PORT_FILE [fail | mistake | close]
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from revinst.launch.watch import RankWatch


def main() -> None:
    rank, file, *end = int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]

    def broadcast(value: int) -> int:
        if rank == 0:
            file.with_suffix(".tmp").write_text(str(value))
            file.with_suffix(".tmp").rename(file)
        while not file.is_file():
            time.sleep(0.01)
        return int(file.read_text())

    watch = RankWatch(rank, 3, "127.0.0.1", broadcast, grace_s=0.5)
    print("watching", flush=True)
    if end == ["close"]:
        time.sleep(0.3 * rank)
        watch.close()
        sys.exit(0)
    if end == ["fail"]:
        watch.fail("ValueError: no\nroom")
        sys.exit(2)
    if end == ["mistake"]:
        watch.fail("UserError: no such file")
        time.sleep(2)
        sys.exit(2)
    time.sleep(60)


if __name__ == "__main__":
    main()
