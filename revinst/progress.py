"""What a long stage says while it runs: a bar on a terminal, plain lines in a file, in CI and in a notebook.

    instructions (tuned): 120 of 400, 30 %, 1,234 tokens/s, 2 min 10 s left
    instructions (tuned): 400 of 400 in 3 min 20 s, 1,210 tokens/s

All of it goes to stderr, so that stdout stays for results, and comes from the first of several processes alone.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import suppress
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from revinst.launch.ranks import is_first_process

T = TypeVar("T")
FIRST_S = 5.0  # without a word; then also a stage that has nothing done yet says that it runs
SHARE = 0.05  # of the work from line to line, ...
LEAST_S = 1.0  # ... but no more lines than one a second, ...
MOST_S = 30.0  # ... and one in this time whatever was done
SIGNS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | dict.fromkeys(
    range(0x7F, 0xA0), 0xFFFD
)
Clock = Callable[[], float]


class Pace:
    """Says when the next line is due. share: of the work that is done, 0-1; None where nobody knows."""

    def __init__(self, clock: Clock, first_s: float = 0.0):
        self.clock, self.first_at = clock, clock() + first_s
        self.spoke_at: float | None = None
        self.share: float | None = None

    def is_due(self, share: float | None) -> bool:
        now = self.clock()
        if self.spoke_at is None:
            return now >= self.first_at
        silent_s = now - self.spoke_at
        more = 0.0 if share is None else share - (self.share or 0.0)
        return silent_s >= MOST_S or (silent_s >= LEAST_S and more > SHARE - 1e-9)

    def speak(self, share: float | None) -> None:
        self.spoke_at, self.share = self.clock(), share


class Stage:
    """One long piece of work, as a context.

    Args:
        title: what is done.
        total: of how many items; None where nobody knows.
        unit: what they are, in the plural.
        brief: for what is mostly over before anybody asks: silent in its first seconds, and for good if it ends then.
        bar: False where a library draws a bar of its own on a terminal.
        done: items that were done before.
        details: what else a line tells; asked only when one is written.
        clock: seconds.
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        unit: str = "",
        *,
        brief: bool = False,
        bar: bool = True,
        done: int = 0,
        details: Callable[[], str] = lambda: "",
        clock: Clock = time.monotonic,
    ):
        self.title, self.total, self.unit, self.brief, self.details = title, total, unit, brief, details
        self.done, self.tokens, self.clock = done, 0, clock
        self.started = self.timed_from = clock()
        self.timed_done = done
        is_bar = on_terminal()
        self.draws = is_bar and bar and is_first_process()
        self.writes = not is_bar and is_first_process()
        self.pace = Pace(clock, FIRST_S if brief else 0.0)
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.task: TaskID | None = None

    # ---- its course ------------------------------------------------------------------------------------------------

    def __enter__(self) -> "Stage":
        RUNNING.append(self)
        if self.writes:
            threading.Thread(target=self.keep_speaking, daemon=True, name="progress").start()
        elif self.draws and not self.brief:
            self.task = BARS.add(self)
        return self

    def advance(self, count: int = 1, tokens: int = 0, speak: bool = False) -> None:
        """So many items more, with so many tokens. speak: write a line whatever the pace."""
        with self.lock:
            self.done, self.tokens = self.done + count, self.tokens + tokens
            is_last = self.total is not None and self.done >= self.total  # `end` says so
            if self.writes and not is_last and (speak or self.pace.is_due(self.share)):
                self.write_line(self.details())
        self.draw()

    def warm_up(self, count: int = 1) -> None:
        """Items that took longer than the next ones will: speed and time left are reckoned from here."""
        with self.lock:
            self.done += count
            self.timed_from, self.timed_done, self.tokens = self.clock(), self.done, 0
        self.draw()

    def skip_time(self, seconds: float) -> None:
        """Leaves out of speed and time left what was none of this stage's work."""
        with self.lock:
            self.timed_from += seconds

    def draw(self) -> None:
        if self.draws and self.task is None and self.clock() - self.started >= FIRST_S:
            self.task = BARS.add(self)
        if self.task is not None:
            BARS.update(self.task, self)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end(is_whole=kind is None)

    def end(self, is_whole: bool = True) -> None:
        """Idempotent. is_whole: False after an error, whose message is enough."""
        if self.ended.is_set():
            return
        with self.lock:
            self.ended.set()
            if self.writes and is_whole and not (self.brief and self.pace.spoke_at is None):
                counted = self.count() or "done"
                write(join(f"{self.title}: {counted} in {in_words(self.clock() - self.started)}", self.rest()))
        if self in RUNNING:
            RUNNING.remove(self)
        if self.task is not None:
            BARS.remove(self.task)

    def keep_speaking(self) -> None:
        """For items that take longer than a line may be waited for. A stage within this one speaks for both."""
        while not self.ended.wait(LEAST_S):
            self.beat()

    def beat(self) -> None:
        with self.lock:
            is_inner = RUNNING[-1:] == [self] and not self.ended.is_set()
            if is_inner and self.clock() - self.started >= FIRST_S and self.pace.is_due(self.pace.share):
                self.write_line("")  # no details: another thread must not ask a device

    # ---- in words --------------------------------------------------------------------------------------------------

    @property
    def share(self) -> float | None:
        return min(self.done / self.total, 1.0) if self.total else None

    @property
    def seconds_each(self) -> float | None:
        """Of an item; None before one was timed."""
        timed = self.done - self.timed_done
        return (self.clock() - self.timed_from) / timed if timed else None

    def write_line(self, details: str) -> None:
        percent = "" if self.share is None else f"{int(100 * self.share)} %"
        counted = self.count() or f"{in_words(self.clock() - self.started)} so far"
        each, left = self.seconds_each, ""
        if each and self.total and self.done < self.total:
            left = f"{in_words(each * (self.total - self.done))} left"
        write(join(f"{self.title}: {counted}", percent, details, self.speed(), left))
        self.pace.speak(self.share)

    def rest(self) -> str:
        return join(self.details(), self.speed())

    def count(self) -> str:
        """`120 of 400 rows`, `12,000 messages`; nothing where nothing is counted."""
        if self.total is not None:
            return f"{self.done:,} of {self.total:,} {self.unit}".strip()
        return f"{self.done:,} {self.unit}".strip() if self.done else ""

    def speed(self) -> str:
        each, seconds = self.seconds_each, self.clock() - self.timed_from
        if not each:
            return ""
        if self.tokens:
            return f"{self.tokens / seconds:,.0f} tokens/s"
        return f"{in_words(each)} each" if each > 1 else f"{1 / each:,.{1 if each > 0.1 else 0}f}/s"


def track(
    items: Iterable[T],
    title: str,
    unit: str = "",
    *,
    size: Callable[[T], int] = lambda item: 1,
    brief: bool = False,
    clock: Clock = time.monotonic,
) -> Iterator[T]:
    """The items one by one, as a stage. size: how many of its units an item holds."""
    total = sum(map(size, items)) if isinstance(items, Sized) else None
    with Stage(title, total, unit, brief=brief, clock=clock) as stage:
        for item in items:
            yield item
            stage.advance(size(item))


def on_terminal() -> bool:
    """Whether a bar can be drawn. Asked of stderr itself: rich also takes CI for a terminal (FORCE_COLOR)."""
    is_terminal = sys.stderr is not None and hasattr(sys.stderr, "isatty") and sys.stderr.isatty()
    return is_terminal and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def write(line: str) -> None:
    with suppress(OSError, ValueError):  # a log on a full disk, or closed: no reason to end hours of work
        print(line, file=sys.stderr, flush=True)


def as_written(text: str) -> Text:
    """Somebody's text for a terminal: brackets are no markup, and an ESC, shown as a sign, commands nothing."""
    return Text(text.translate(SIGNS))


def join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def in_words(seconds: float) -> str:
    """
    >>> [in_words(each) for each in (0.04, 7.26, 59.7, 130, 11_100, 200_000)]
    ['0.04 s', '7.3 s', '1 min', '2 min 10 s', '3 h 5 min', '2 d 7 h']
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.1 or not seconds else f"{seconds:.1g} s"
    whole = round(seconds)
    for large, small, in_large, in_small in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= in_large:
            count, left = whole // in_large, whole % in_large // in_small
            return f"{count} {large} {left} {small}" if left else f"{count} {large}"
    return f"{whole} s"


class Bars:
    """The bars of all stages that run: a terminal has room for one display."""

    def __init__(self) -> None:
        self.display: Progress | None = None

    def add(self, stage: Stage) -> TaskID:
        if self.display is None:
            self.display = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TokensPerSecond(),
                console=Console(file=sys.stderr),
                redirect_stdout=sys.stdout.isatty(),  # a file gets what is printed to it
            )
            self.display.start()
        return self.display.add_task(stage.title, total=stage.total, completed=stage.done)

    def update(self, task: TaskID, stage: Stage) -> None:
        assert self.display is not None
        self.display.update(task, completed=stage.done, total=stage.total, tokens=stage.tokens)

    def remove(self, task: TaskID) -> None:
        """The last one stays on the screen."""
        assert self.display is not None
        if len(self.display.task_ids) > 1:
            self.display.remove_task(task)
        else:
            self.display.stop()
            self.display = None


class TokensPerSecond(ProgressColumn):
    """Of stages that count tokens; nothing for others."""

    def render(self, task: Task) -> Text:
        tokens = task.fields.get("tokens")
        return Text(f"{tokens / task.elapsed:,.0f} tokens/s" if tokens and task.elapsed else "")


RUNNING: list[Stage] = []  # the innermost last
BARS = Bars()
