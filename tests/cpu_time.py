"""How long work takes, whatever the machine and however busy it is."""

import time
from collections import Counter
from collections.abc import Callable

KNOWN_S = 0.045  # of `known_work` on the machine that the tests' bounds were set on
LONG_S = 0.25  # what is over sooner needs no second look
LENGTH = 50_000
MOST_S = 3.0  # for so many characters; the slowest takes 0.8 s


def seconds(work: Callable[[], object]) -> float:
    """Processor time of a call, in seconds of the machine that the bounds were set on: a slower one is allowed for."""
    took = measure(work)
    return took if took < LONG_S else took * KNOWN_S / max(KNOWN_S, measure(known_work))


def measure(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def known_work() -> None:
    """Strings, a dictionary and small calls, as in most of what is measured."""
    counts: Counter[str] = Counter()
    for word in ("the quick brown fox jumps over the lazy dog 0123 " * 4500).split():
        counts[word[1:] + word[:1]] += 1
        any(map(str.isalnum, word))


def assert_linear(work: Callable[[str], object], unit: str, beginning: str = "", length: int = LENGTH) -> None:
    """Four times the length takes about four times as long; what takes next to nothing is not looked at."""

    def of(length: int, timed: Callable[[Callable[[], object]], float] = measure) -> float:
        text = beginning + (unit * (length // len(unit) + 1))[:length] + "\x00"
        return timed(lambda: work(text))

    whole = of(length, seconds)
    assert whole < MOST_S * length / LENGTH, (beginning, unit)
    if whole > LONG_S:  # the best of three: another process may have taken the caches
        whole, quarter = (min(of(size) for _ in range(3)) for size in (length, length // 4))
        assert whole < 0.1 or whole < 8 * quarter, (beginning, unit, quarter, whole)
