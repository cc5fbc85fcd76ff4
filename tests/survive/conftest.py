"""One uninterrupted run that the others are compared with."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.survive.faults import arguments, run_process, state_of, write_rows


@pytest.fixture(scope="session")
def folder(tiny_llama, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_rows(folder / "rows.jsonl")
    return folder


@pytest.fixture(scope="session")
def whole(folder, tiny_llama) -> tuple[dict, int]:
    """The uninterrupted run, and how many events it has."""
    code, events = run_process(arguments(folder, "whole", tiny_llama), folder / "whole.log")
    assert code == 0, (folder / "whole.log").read_text()[-3000:]
    state = state_of(folder / "whole")
    assert len(state["rows"]) == state["manifest"]["steps"] >= 14 and len(state["optimizer"]) == 28 and events > 150
    assert sum(bool(row["val/loss"]) for row in state["rows"]) >= 4 and state["manifest"]["val_loss"] > 5
    return state, events


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
