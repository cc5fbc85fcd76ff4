"""One uninterrupted run that the others are compared with, and the table of the faults that tests injected."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.survive.faults import arguments, run_process, state_of, write_rows
from tests.survive.two_ranks import start


@pytest.fixture(scope="session")
def folder(tiny_llama, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_rows(folder / "rows.jsonl")
    return folder


@pytest.fixture(scope="session")
def whole(folder, tiny_llama) -> tuple[dict, list[str]]:
    """The uninterrupted run, and the names of its events."""
    code, events = run_process(arguments(folder, "whole", tiny_llama), folder / "whole.log")
    assert code == 0, (folder / "whole.log").read_text()[-3000:]
    state = state_of(folder / "whole")
    assert (
        len(state["rows"]) == state["manifest"]["steps"] >= 14 and len(state["optimizer"]) == 28 and len(events) > 150
    )
    assert sum(bool(row["val/loss"]) for row in state["rows"]) >= 4 and state["manifest"]["val_loss"] > 5
    return state, events


@pytest.fixture(scope="session")
def whole_ranks(folder, tiny_llama) -> dict:
    """The uninterrupted run of two ranks."""
    assert start(folder, tiny_llama, "ranks", resume="never").wait(240) == 0, (folder / "ranks.log").read_text()[-3000:]
    return state_of(folder / "ranks")


@pytest.fixture(scope="session")
def stopped(folder, tiny_llama, whole) -> Path:
    """A run that SIGTERM stopped after step 7 of 16, with checkpoints of steps 6 (the best) and 7."""
    log = folder / "stopped.log"
    code, _ = run_process(arguments(folder, "stopped", tiny_llama), log, "SIGTERM", "finish_step:6")
    assert code == 143, log.read_text()[-3000:]
    return folder / "stopped"


@pytest.fixture
def copy_of(folder) -> Callable[[str, str], Path]:
    """copy_of(name, new): a copy of a run under a new name."""

    def copy(name: str, new: str) -> Path:
        return Path(shutil.copytree(folder / name, folder / new))

    return copy


Fault = Callable[[str], AbstractContextManager[dict[str, int]]]


@pytest.fixture
def fault(record_property) -> Fault:
    """fault(kind): a context for injecting faults. Its body counts `injected` and `bytes_lost`; all are survived if it
    ends without an error, none otherwise. The end of the session shows the sums of each kind.
    """

    @contextmanager
    def inject(kind: str) -> Iterator[dict[str, int]]:
        counts = {"injected": 0, "survived": 0, "bytes_lost": 0}
        record_property(f"fault: {kind}", counts)
        yield counts
        counts["survived"] = counts["injected"]

    return inject


def pytest_terminal_summary(terminalreporter) -> None:
    sums: dict[str, dict[str, int]] = defaultdict(lambda: {"injected": 0, "survived": 0, "bytes_lost": 0})
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, counts in report.user_properties if report.when == "call" else ():
            if name.startswith("fault: "):
                for column in counts:
                    sums[name.removeprefix("fault: ")][column] += counts[column]
                    sums["all"][column] += counts[column]
    if not sums:
        return
    width = max(map(len, sums))
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'fault':{width}}  injected  survived  bytes lost")
    for kind in sorted(sums, key=lambda kind: (kind == "all", kind)):
        row = sums[kind]
        terminalreporter.write_line(
            f"{kind:{width}}  {row['injected']:8,}  {row['survived']:8,}  {row['bytes_lost']:10,}"
        )
