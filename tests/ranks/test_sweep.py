"""scripts/sweep.py: trials spread over GPUs, what is kept of each, and the table that is made of it."""

import json
import re
import shutil
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from revinst.errors import UserError
from revinst.evaluation.comparison import System, compare_systems
from scripts import sweep

ROWS = 40


def score(run: str) -> list[dict[str, object]]:
    """Of one run: `better` gains 0.1 ROUGE-L and 0.2 nats a row, other names nothing; each row and seed has its own."""
    _, name, seed = re.fullmatch(r"(\w+)-(.+?)(?:-(4\d))?", run).groups()
    draw = np.random.default_rng([int(seed or 0), 7])
    noise = draw.normal(0, 0.01, (ROWS, 2))
    gain = (0.1, 0.2) if name == "better" else (0, 0)
    return [
        {
            "id": f"row-{n}", "group": f"row-{n // 2}", "reference": "Why?", "prediction": "Why?", "category": "",
            "rougeL": 0.3 + n / 100 + gain[0] + noise[n, 0], "logp_reference": -5.0 - n % 7 + gain[1] + noise[n, 1],
        }
        for n in range(ROWS)
    ]  # fmt: skip


@pytest.fixture
def trials(tmp_path, monkeypatch):
    """trials(*options, names=, fails=): the GPUs of each run, and how many ran on one at the same time at most."""
    lock, running, most, used = threading.Lock(), Counter(), Counter(), {}
    monkeypatch.chdir(tmp_path)

    Path("c.yaml").write_text("model: {base: tiny}\n")

    def run(*options, names=tuple(f"lr-{n}" for n in range(1, 7)), fails=""):
        Path("six.yaml").write_text(yaml.safe_dump({name: {"model.lr": 1.0} for name in names}, sort_keys=False))

        def run_revinst(log, gpu, *args):
            with lock:
                running[gpu] += 1
                most[gpu] = max(most[gpu], running[gpu])
            time.sleep(0.05)
            with lock:
                running[gpu] -= 1
                used.setdefault(log.stem, set()).add(gpu)
            if fails and fails in log.stem:
                raise UserError(f"{log.stem} failed")
            if args[0] == "fit":
                return b""
            rows, folder = score(log.stem), Path(args[1]) / "evaluation" / "val"
            folder.mkdir(parents=True)
            (Path(args[1]) / "checkpoints").mkdir()
            (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            metrics = {name: {"mean": 0.5, "ci95": [0.4, 0.6], "n": ROWS} for name in ("rougeL", "rouge1", "rouge2")}
            loss = -sum(row["logp_reference"] for row in rows) / (4 * ROWS)  # four tokens each
            return json.dumps({"n": ROWS, "metrics": metrics, "heldout_loss": loss}).encode()

        monkeypatch.setattr(sweep, "run_revinst", run_revinst)
        monkeypatch.setattr(sys, "argv", ["sweep", "c.yaml", "six.yaml", "--table", "six.jsonl", *options])
        code = sweep.main()
        return used, most, code

    return run


def test_each_trial_has_a_gpu_for_itself(trials, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3,5")
    used, most, _ = trials("--gpus", "all")
    assert most == {"1": 1, "3": 1, "5": 1} and all(len(gpus) == 1 for gpus in used.values()) and len(used) == 6
    assert len(Path("six.jsonl").read_text().splitlines()) == 6
    assert len(list(Path("runs").iterdir())) == 6 and not list(Path("runs").glob("*/checkpoints"))


def test_at_once_is_for_each_device(trials):
    assert trials("--gpus", "0,2", "--at_once", "2")[1] == {"0": 2, "2": 2}


def test_without_gpus_trials_share_what_there_is(trials):
    assert trials("--at_once", "3")[1] == {None: 3}


def test_no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SystemExit, match="--at_once"):
        sweep.list_gpus("all")


def test_a_failed_trial_leaves_the_others_and_the_same_command_goes_on(trials, capsys):
    options = ("--seeds", "42", "43", "--at_once", "2", "--data.split", "split.json")
    used, _, code = trials(*options, names=("first", "better", "same"), fails="better-43")
    assert code == 1 and len(used) == 6 and len(sweep.read_lines(Path("six.jsonl"))) == 5
    told = capsys.readouterr()
    assert "six-better-43 failed" in told.err and "1 of 6 are not done" in told.err and ", seeds 42\n" in told.out
    used.clear()
    used, _, code = trials(*options, names=("first", "better", "same"))
    assert code == 0 and list(used) == ["six-better-43"] and ", seeds 42, 43\n" in capsys.readouterr().out


def test_an_interrupt_stops_it_and_the_same_command_goes_on(trials, monkeypatch, capsys):
    keep, kept = sweep.append_line, []

    def interrupt(path, line):
        keep(path, line)
        kept.append(line)
        if len(kept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "append_line", interrupt)
    used, _, code = trials()
    assert code == 130 and len(used) < 5 and capsys.readouterr().err.endswith("stopped; the same command goes on\n")
    for run in Path("runs").iterdir():
        shutil.rmtree(run)  # what a real one goes on with
    assert trials()[2] == 0 and len(sweep.read_lines(Path("six.jsonl"))) == 6


def test_a_trial_that_was_changed_is_not_taken_for_done(trials, capsys):
    trials(names=("first", "better"))
    table = Path("six.jsonl")
    table.write_text(table.read_text().replace('"model.lr": 1.0', '"model.lr": 2.0', 1))
    assert trials(names=("first", "better"))[2] == 2 and "other overrides" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["config", "options"])
def test_trials_of_another_config_are_not_set_beside_these(trials, capsys, what):
    used, *_ = trials(names=("first",))
    used.clear()
    more = ("--model.base", "other") if what == "options" else ()
    if what == "config":
        Path("c.yaml").write_text("model: {base: other}\n")
    code = trials(*more, names=("first", "better"))[2]
    assert code == 2 and not used and f"six-first was trained with another {what}" in capsys.readouterr().err
    code = trials(*more, "--table", "other.jsonl", names=("first", "better"))[2]
    assert code == 0 and used.keys() == {"other-first", "other-better"}  # runs of their own, not the finished ones


def test_a_run_of_other_settings_is_not_gone_on_with(trials, capsys):
    """It is in no table: that was deleted, or the run is somebody's own."""
    used, *_ = trials(names=("first",))
    Path("six.jsonl").unlink()
    used.clear()
    assert trials("--trainer.max_epochs", "4", names=("first",))[2] == 1 and not used
    assert "runs/six-first: not known as a run of this trial's settings" in capsys.readouterr().err
    shutil.rmtree("runs/six-first")
    assert trials("--trainer.max_epochs", "4", names=("first",))[2] == 0


def test_nothing_is_set_against_another_than_the_first(trials, capsys):
    assert trials(names=("first", "better", "same"), fails="first")[2] == 1
    told = capsys.readouterr().out
    assert "first, which the others are set against, has not been trained yet" in told and "| better |" not in told


def test_a_line_that_a_kill_has_torn_is_trained_again(trials):
    used, *_ = trials(names=("first", "better"))
    used.clear()
    table = Path("six.jsonl")
    whole = table.read_bytes()
    table.write_bytes(whole[:-100])
    torn = json.loads(whole.splitlines()[1])["run"]
    for folder in Path("runs").iterdir():
        shutil.rmtree(folder)
    assert trials(names=("first", "better"))[2] == 0 and list(used) == [torn] and len(sweep.read_lines(table)) == 2


NONE = [
    ("", "must be a mapping"),
    ("{}", "no trial in it"),
    ("- a", "must be a mapping"),
    ("a: 5", "a: a trial is a map"),
]


@pytest.mark.parametrize(("content", "said"), NONE)
def test_trials_that_are_none(tmp_path, monkeypatch, capsys, content, said):
    (tmp_path / "trials.yaml").write_text(content)
    (tmp_path / "c.yaml").write_text("{}")
    for trials, expected in (("trials.yaml", said), ("none.yaml", "no such file")):
        monkeypatch.setattr(sys, "argv", ["sweep", str(tmp_path / "c.yaml"), str(tmp_path / trials)])
        assert sweep.main() == 2 and expected in capsys.readouterr().err


def test_nothing_begins_after_the_time(trials, capsys):
    used, _, code = trials("--stop_after", "0")
    told = capsys.readouterr()
    assert not used and code == 0 and "no seed has been trained" in told.out and "6 of 6 are not done" in told.err


def test_only_some_trials_beside_the_first(trials):
    assert set(trials("--only", "same", names=("first", "better", "same"))[0]) == {"six-first", "six-same"}
    with pytest.raises(SystemExit, match="has no worse"):
        trials("--only", "worse")


def test_seeds_without_a_split_would_be_scored_on_other_rows(trials):
    with pytest.raises(SystemExit, match=r"--data\.split runs/NAME"):
        trials("--seeds", "42", "43")


def test_the_table_is_compares(trials, capsys):
    """Means, differences, intervals and p are those of `revinst compare` on the rows as they were scored."""
    names, seeds = ("first", "better", "same"), (42, 43, 44)
    trials("--seeds", *map(str, seeds), "--data.split=split.json", names=names)
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if re.match(r"\| \w", line)]
    assert [cells[0] for cells in table] == ["| trial", "| first", "| better", "| same"]
    systems = [
        System(name, [{row["id"]: row for row in score(f"six-{name}-{seed}")} for seed in seeds]) for name in names
    ]
    expected = compare_systems(systems, "rougeL")
    pair = expected["pairs"][0]
    assert table[2][3] == f"{expected['systems'][1]['mean']:.4f} (sd {expected['systems'][1]['sd']:.4f})"
    low, high = pair["ci95"]
    assert table[2][4] == f"+0.1000 [{low:+.4f}, {high:+.4f}], p < 0.001; +0.1000 to +0.1000" and pair["p_holm"] < 0.001
    assert table[2][2].startswith("-0.0500 [-0.0500, -0.0500], p < 0.001")  # 0.2 nats a row of four tokens
    assert table[3][2].startswith("+0.0000") and "p 1.000" in table[3][4]
    loss = np.mean([-row["logp_reference"] / 4 for seed in seeds for row in score(f"six-first-{seed}")])
    assert table[1][1].startswith(f"{loss:.4f} (sd ") and table[1][2] == ""


def test_rows_that_have_no_score_are_left_out():
    rows = {"a": {"logp_reference": -8.0, "rougeL": None}, "b": {"logp_reference": None, "rougeL": 0.5}}
    rows |= {"c": {"logp_reference": -4.0, "rougeL": 0.25, "group": "b"}}
    assert sweep.list_rows(rows, "rougeL", 1.5) == {"a": [0, 2.0, None], "b": [1, None, 0.5], "c": [1, 1.0, 0.25]}
