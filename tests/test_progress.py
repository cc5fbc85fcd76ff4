"""Long stages speak: when lines come, what they say, and that `fit` and `evaluate` write them where no terminal is."""

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from revinst.progress import Pace, Stage, in_words, track
from revinst.training.lines import ProgressLines, count_steps

ROOT = Path(__file__).resolve().parents[1]
STEP = re.compile(
    r"training: step (?P<step>\d+) of (?P<total>\d+), (?P<percent>\d+) %, loss (?P<loss>[\d.]+), "
    r"(?P<speed>[\d,]+) tokens/s, (?P<left>[\d.]+ (?:s|min).*) left"
)
ROW = re.compile(
    r"instructions \((?P<name>tuned|base)\): (?P<done>\d+) of (?P<total>\d+), (?P<percent>\d+) %, "
    r"(?P<speed>[\d,]+) tokens/s, (?P<left>[\d.]+ (?:s|min).*) left"
)
BOTH = """
import sys
from tests.tiny import run_in_process
base, runs = sys.argv[1:]
options = {
    "model.base": base, "runs_dir": runs, "run_name": "one", "data.source": "quickstart", "data.seq_len": 256,
    "data.heldout_fraction": 0.1, "data.val_fraction": 0.02, "data.micro_batch_size": 4,
    "model.lora": "{r: 4, alpha: 8}", "trainer.max_steps": 8, "samples.every_steps": 0,
    "trainer.val_check_interval": 4, "trainer.check_val_every_n_epoch": "null",
}
codes = [run_in_process("fit", *(part for key, value in options.items() for part in (f"--{key}", value)))]
few = ("--max_new_tokens", 12, "--batch_size", 4, "--limit", 16)
codes.append(run_in_process("evaluate", f"{runs}/one", *few, "--json"))
sys.exit(max(codes))
"""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lines_of(capsys) -> list[str]:
    out, err = capsys.readouterr()
    assert not out
    return err.splitlines()


@pytest.mark.parametrize(
    "each_s, count, expected",
    [
        (0.001, 1000, [0]),  # all of it within a second
        (0.5, 20, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]),  # 5 % an item, a line a second
        (4.0, 100, [*range(0, 100, 5)]),  # 5 % take 20 s
        (10.0, 100, [*range(0, 100, 3)]),  # 5 % take 50 s, and 30 s are the longest silence
        (40.0, 30, [*range(30)]),
    ],
)
def test_a_line_at_5_percent_and_every_30_seconds(clock, each_s, count, expected):
    pace, spoken = Pace(clock), []
    for number in range(count):
        if pace.is_due(number / count):
            pace.speak(number / count)
            spoken.append(number)
        clock.now += each_s
    assert spoken == expected


def test_lines_of_a_stage(clock, capsys):
    with Stage("instructions (tuned)", 400, clock=clock) as stage:
        for _ in range(400):
            clock.now += 0.5
            stage.advance(tokens=617)
    lines = lines_of(capsys)
    assert lines[0] == "instructions (tuned): 1 of 400, 0 %, 1,234 tokens/s, 3 min 20 s left"
    assert lines[6] == "instructions (tuned): 121 of 400, 30 %, 1,234 tokens/s, 2 min 20 s left"
    assert lines[-1] == "instructions (tuned): 400 of 400 in 3 min 20 s, 1,234 tokens/s"
    assert len(lines) == 21


def test_unknown_length(clock, capsys):
    def messages():
        for number in range(61_000):
            clock.now += 0.001
            yield number

    assert len(list(track(messages(), "reading mail.mbox", "messages", clock=clock))) == 61_000
    assert lines_of(capsys) == [
        "reading mail.mbox: 1 messages, 1,000/s",
        "reading mail.mbox: 30,001 messages, 1,000/s",
        "reading mail.mbox: 60,001 messages, 1,000/s",
        "reading mail.mbox: 61,000 messages in 1 min 1 s, 1,000/s",
    ]


def test_brief_stages_are_silent_unless_they_are_long(clock, capsys):
    for each_s in (0.01, 0.1):
        with Stage("encoding", 100, "rows", brief=True, clock=clock) as stage:
            for _ in range(100):
                clock.now += each_s
                stage.advance()
    lines = lines_of(capsys)
    assert lines[0] == "encoding: 51 of 100 rows, 51 %, 10/s, 4.9 s left"
    assert lines[-1] == "encoding: 100 of 100 rows in 10 s, 10/s" and len(lines) == 6


def test_an_item_that_takes_long_is_not_silent(clock, capsys):
    """`beat` is what a thread calls every second; the inner stage speaks for both."""
    with Stage("loading base", brief=True, clock=clock) as outer:
        for _ in range(70):
            clock.now += 1
            outer.beat()
        with Stage("shards", 4, details=lambda: "never asked from the thread", clock=clock) as inner:
            for _ in range(31):
                clock.now += 1
                outer.beat()
                inner.beat()
    assert lines_of(capsys) == [
        "loading base: 5.0 s so far",
        "loading base: 35 s so far",
        "loading base: 1 min 5 s so far",
        "shards: 0 of 4, 0 %",
        "shards: 0 of 4 in 31 s, never asked from the thread",
        "loading base: done in 1 min 41 s",
    ]


def test_only_the_first_rank_speaks_and_none_after_an_error(clock, capsys, monkeypatch):
    with pytest.raises(KeyError), Stage("rows", 3, clock=clock) as stage:
        clock.now += 20
        stage.advance()
        raise KeyError
    assert lines_of(capsys) == ["rows: 1 of 3, 33 %, 20 s each, 40 s left"]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert list(track([1, 2, 3], "rows")) == [1, 2, 3] and not lines_of(capsys)


def test_a_full_disk_under_the_log_ends_nothing(monkeypatch):
    class Full:
        def write(self, text: str) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    assert list(track(range(3), "rows")) == [0, 1, 2]


def test_time_in_words():
    given = (0.0, 0.04, 7.26, 9.96, 59.4, 60, 130, 3599.7, 11_100, 86_400, 200_000)
    assert list(map(in_words, given)) == [
        "0.0 s", "0.04 s", "7.3 s", "10 s", "59 s", "1 min", "2 min 10 s", "1 h", "3 h 5 min", "1 d", "2 d 7 h"
    ]  # fmt: skip


def fake_trainer(**values: object) -> SimpleNamespace:
    defaults = {"max_steps": -1, "max_epochs": 2, "num_training_batches": 50, "world_size": 2}
    losses = {"train/loss": torch.tensor(2.5)}
    return SimpleNamespace(**defaults | {"is_global_zero": True, "callback_metrics": losses} | values)


def test_total_steps():
    module = SimpleNamespace(step=7, extra_steps=0)
    assert count_steps(fake_trainer(), module) == 100
    assert count_steps(fake_trainer(max_steps=30), module) == 30
    assert count_steps(fake_trainer(max_epochs=-1, max_steps=300), module) == 300
    assert count_steps(fake_trainer(max_epochs=-1), module) is None
    assert count_steps(fake_trainer(), SimpleNamespace(step=7, extra_steps=3)) == 103


def test_a_resumed_run_counts_from_where_it_is(capsys, monkeypatch, clock):
    """Speed and time left are of this process' steps after its first, which took 50 s, and without validation."""
    monkeypatch.setattr("time.monotonic", clock)
    monkeypatch.setattr(Stage.__init__, "__kwdefaults__", Stage.__init__.__kwdefaults__ | {"clock": clock})
    monkeypatch.setattr(Stage, "keep_speaking", lambda stage: None)
    trainer, module, lines = fake_trainer(num_val_batches=[4]), SimpleNamespace(step=40, extra_steps=0), ProgressLines()
    lines.on_train_start(trainer, module)
    for number in range(60):
        clock.now += 50 if number == 0 else 2
        module.step += 1
        lines.on_train_batch_end(trainer, module, None, SimpleNamespace(num_tokens=1000), number)
        if number == 1:
            trainer.callback_metrics["val/loss"] = torch.tensor(3.0)
            lines.on_validation_start(trainer, module)
            for batch in range(4):
                clock.now += 100
                lines.on_validation_batch_end(trainer, module, None, None, batch)
            lines.on_validation_end(trainer, module)
    lines.on_train_end(trainer, module)
    said = lines_of(capsys)
    assert said.pop(0) == "the first step takes longest; after the second a line says how long the rest will take"
    assert said[0] == "training: step 42 of 100, 42 %, loss 2.500, 1,000 tokens/s, 1 min 56 s left"
    assert said[1] == "validation: 1 of 4 batches, 25 %, val/loss 3.000, 1 min 40 s each, 5 min left"
    assert said[4] == "validation: 4 of 4 batches in 6 min 40 s, val/loss 3.000, 1 min 40 s each"
    assert said[5] == "training: step 43 of 100, 43 %, loss 2.500, 1,000 tokens/s, 1 min 54 s left"
    assert said[-1] == "training: step 100 of 100 in 9 min 28 s, loss 2.500, 1,000 tokens/s"


@dataclass
class Seen:
    """What `fit` and `evaluate` wrote: into two files, and on a terminal."""

    out: str
    err: str
    terminal: str


@pytest.fixture(scope="module")
def seen(tiny_llama, tmp_path_factory) -> Seen:
    """Both at once, since most of their time is that of imports."""
    folder = tmp_path_factory.mktemp("progress")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "160"}
    command = [sys.executable, "-c", BOTH, tiny_llama]
    main, terminal = pty.openpty()
    with (folder / "err").open("w") as err, (folder / "out").open("w") as out:
        in_files = subprocess.Popen([*command, folder / "a"], stdout=out, stderr=err, env=environment, cwd=ROOT)
        on_terminal = subprocess.Popen(
            [*command, folder / "b"], stdin=terminal, stdout=terminal, stderr=terminal, env=environment, cwd=ROOT
        )
        os.close(terminal)
        content = b""
        with suppress(OSError):  # Linux: the other end is closed
            while chunk := os.read(main, 1 << 16):
                content += chunk
        os.close(main)
        codes = [in_files.wait(), on_terminal.wait()]
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", content.decode())
    seen = Seen((folder / "out").read_text(), (folder / "err").read_text(), drawn)
    assert codes == [0, 0], seen
    return seen


def test_fit_and_evaluate_write_lines_into_a_file(seen):
    text = seen.err
    assert "\r" not in text and "━" not in seen.out and " left" not in seen.out and '"heldout_loss"' in seen.out
    lines = text.splitlines()

    steps = [match for line in lines if (match := STEP.fullmatch(line))]
    numbers = [int(match["step"]) for match in steps]
    assert numbers[0] == 2 and numbers == sorted(set(numbers)) and {match["total"] for match in steps} == {"8"}
    assert all(int(match["percent"]) == 100 * int(match["step"]) // 8 for match in steps)
    assert all(9 < float(match["loss"]) < 12 and 10 < number_of(match["speed"]) < 1e6 for match in steps)
    assert all(seconds_of(match["left"]) < 300 for match in steps)
    assert sum(re.fullmatch(r"training: step 8 of 8 in .* s, loss [\d.]+, [\d,]+ tokens/s", line) is not None
               for line in lines) == 1  # fmt: skip

    for name in ("base", "tuned"):
        rows = [match for line in lines if (match := ROW.fullmatch(line)) and match["name"] == name]
        done_rows = [int(match["done"]) for match in rows]
        total = int(rows[0]["total"])
        assert total == 16 and done_rows[0] >= 1 and done_rows == sorted(set(done_rows)) and done_rows[-1] < total
        assert all(number_of(match["speed"]) > 0 for match in rows)
        end = re.compile(rf"instructions \({name}\): {total} of {total} in [\d.]+ .*s, [\d,]+ tokens/s")
        assert sum(end.fullmatch(line) is not None for line in lines) == 1, text
    assert any(re.fullmatch(r"log p\(instruction\): \d+ of \d+ rows in .*", line) for line in lines)


def number_of(text: str) -> float:
    return float(text.replace(",", ""))


def seconds_of(text: str) -> float:
    units = {"s": 1, "min": 60}
    parts = text.split()
    return sum(float(number) * units[unit] for number, unit in zip(parts[::2], parts[1::2], strict=True))


def test_a_terminal_gets_bars(seen):
    lines = re.split(r"[\r\n]+", seen.terminal)
    assert any(re.match(r"Epoch 0.*━.*8/8", line) for line in lines)
    assert any(re.match(r"instructions \(tuned\) .*━.* tokens/s", line) for line in lines)
    assert not [line for line in lines if re.match(r"(training|validation|instructions.*|log p.*): ", line)]
    assert len([line for line in lines if re.match(r"about .* for 6 more steps \(1 step took .* s\)", line)]) == 1
