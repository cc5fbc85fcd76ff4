"""Property 5: killed with SIGKILL at any moment and resumed, a run ends bit-equal to one that was not (CPU)."""

import random
from pathlib import Path

import pytest

from tests.survive.faults import arguments, assert_equal, run_process, state_of


def kill_until_done(folder: Path, base: Path, name: str, moments: list[int], expected: dict) -> int:
    """Fits `name`, killed at the given numbers of events one after the other; the number of kills that hit."""
    log, kills = folder / f"{name}.log", 0
    for at in moments:
        code, _ = run_process(arguments(folder, name, base), log, "SIGKILL", at)
        assert code in (0, -9), log.read_text()[-3000:]
        kills += code == -9
        if code == 0:
            break
    else:
        code, _ = run_process(arguments(folder, name, base), log)
        assert code == 0, log.read_text()[-3000:]
    assert_equal(state_of(folder / name), expected)
    return kills


def test_killed_four_times(folder, tiny_llama, whole):
    """Early, in the middle of a validation and its checkpoint, then while the finished adapter is being written."""
    state, events = whole
    kills = kill_until_done(folder, tiny_llama, "four", [events // 5, events // 4, events // 5, events // 6], state)
    assert kills == 4
    assert kill_until_done(folder, tiny_llama, "end", [events - 3], state) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments(folder, tiny_llama, whole, seed):
    """At least five kills a seed, 20 in all."""
    state, events = whole
    random.seed(seed)
    kills = 0
    for attempt in range(20):
        moments = [random.randrange(events) for _ in range(6)]
        kills += kill_until_done(folder, tiny_llama, f"random-{seed}-{attempt}", moments, state)
        if kills >= 5:
            break
    print(f"seed {seed}: {kills} kills")
    assert kills >= 5
