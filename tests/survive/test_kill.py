"""Property 5: killed with SIGKILL at any moment and resumed, a run ends bit-equal to one that was not (CPU)."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.survive.faults import MOMENTS, arguments, assert_equal, count_lost, run_process, state_of

KILLED = -9


def kill_until_done(folder: Path, base: Path, name: str, moments: Sequence[int | str | float]) -> int:
    """Fits `name`, killed at the given events (or seconds) one after the other; the number of kills that hit."""
    log, args, kills = folder / f"{name}.log", arguments(folder, name, base), 0
    for at in moments:
        if isinstance(at, float):
            code, _ = run_process(args, log, after_s=at)
        else:
            code, _ = run_process(args, log, "SIGKILL", at)
        assert code in (0, KILLED), log.read_text()[-3000:]
        kills += code == KILLED
        if code == 0:
            return kills
    code, _ = run_process(args, log)
    assert code == 0, log.read_text()[-3000:]
    return kills


@pytest.fixture
def survives(folder, tiny_llama, whole):
    """survives(counts, name, moments): killed then, a run of that name ends as the one that was not; how many hit."""

    def survives(counts: dict[str, int], name: str, moments: Sequence[int | str | float]) -> int:
        kills = kill_until_done(folder, tiny_llama, name, moments)
        state = state_of(folder / name)
        counts["injected"] += kills
        counts["bytes_lost"] += count_lost(state, whole[0])
        assert_equal(state, whole[0])
        return kills

    return survives


def test_killed_four_times(whole, survives, fault):
    """Early, in the middle of a validation and its checkpoint, then while the finished adapter is being written."""
    number = len(whole[1])
    with fault("SIGKILL, several in one run") as counts:
        assert survives(counts, "four", [number // 5, number // 4, number // 5, number // 6]) == 4
    with fault("SIGKILL at the end") as counts:
        last = whole[1].count("replace") - 1
        assert survives(counts, "end", ["save_adapter:0", f"replace:{last}"]) >= 1


@pytest.mark.wide
@pytest.mark.parametrize("kind", MOMENTS)
def test_killed_at_random_moments_of_a_kind(whole, survives, fault, kind):
    """At least five kills of each kind, 20 in all; a second moment falls into the run that went on."""
    names = [name for name in whole[1] if name in MOMENTS[kind]]
    rng = random.Random(kind)
    with fault(f"SIGKILL {kind}") as counts:
        for attempt in range(20):
            moments = []
            for number in rng.sample(range(len(names)), 2):
                moments.append(f"{names[number]}:{Counter(names[:number])[names[number]]}")
            survives(counts, f"{kind.replace(' ', '-')}-{attempt}", moments)
            if counts["injected"] >= 5:
                break
        assert counts["injected"] >= 5


@pytest.mark.wide
def test_killed_by_the_clock(folder, tiny_llama, whole, survives, fault):
    """Not only before the events that `watch` knows: at any instruction."""
    since = time.monotonic()
    assert run_process(arguments(folder, "clock", tiny_llama), folder / "clock.log")[0] == 0
    seconds, rng = time.monotonic() - since, random.Random(0)
    with fault("SIGKILL by the clock") as counts:
        for attempt in range(20):
            survives(counts, f"clock-{attempt}", [rng.uniform(0.2, 1) * seconds, rng.uniform(0.2, 1) * seconds])
            if counts["injected"] >= 5:
                break
        assert counts["injected"] >= 5
