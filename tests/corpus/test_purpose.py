"""Whether written instructions help, on a random model and few rows; the statistics on made numbers."""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from filelock import FileLock

from revinst.data.example_table import Examples, build_examples, load_examples
from revinst.data.examples import Example
from revinst.errors import UserError
from scripts.purpose import rows as rows_of_purpose
from scripts.purpose import work
from scripts.purpose.__main__ import main, open_workers
from scripts.purpose.arms import Rows, choose_pairs, list_arms, read_lines, write_arm, write_lines
from scripts.purpose.rows import check_rows, drop_seen
from scripts.purpose.tables import compare_all
from scripts.purpose.work import METRICS
from tests.commands.test_run import OPTIONS


def build(*rows: tuple[str, str, str]) -> Examples:
    return build_examples(Example(row_id, instruction, "", response, "") for row_id, instruction, response in rows)


TREES = ("ash", "birch", "cedar", "elm", "fig", "gum", "hazel", "ivy", "juniper", "larch", "maple", "oak", "pine")


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.wide
def test_two_arms_end_to_end(backward_run, tiny_llama, tmp_path, capsys, monkeypatch):
    rows = [json.loads(line) for line in open("revinst/data/quickstart.jsonl", encoding="utf-8")]  # noqa: SIM115
    fresh = [
        {"instruction": f"Tell me about number {n}.", "response": f"The {n}th row speaks of {tree} and nothing more."}
        for n, tree in enumerate([*TREES, *(f"{tree} and moss" for tree in TREES)])
    ]
    data, work = tmp_path / "data.jsonl", tmp_path / "work"
    data.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *fresh]))
    drop = ("source", "heldout_fraction", "val_fraction", "every_steps", "enable_progress_bar", "max_steps")
    fit = {name: value for name, value in OPTIONS.items() if name.split(".")[1] not in drop}
    fit |= {"model.base": tiny_llama}
    of_fit = " ".join(f"--{key} '{value}'" for key, value in fit.items())
    args = [str(work), "--backward", str(backward_run), "--runs", str(tmp_path / "runs"), "--heldout", "6"]
    args += ["--val", "2", "--samples", "2", "--new_tokens", "6", "--forward_args", of_fit, "--seeds", "42"]
    assert main([*args, "--stages", "one", "--arms", "true", "--stop_after", "0"]) == 2
    assert "give --data" in capsys.readouterr().err
    args += ["--data", str(data)]
    assert main([*args, "--heldout", "5000"]) == 2 and "lower --heldout" in capsys.readouterr().err  # which is heeded
    assert main([*args, "--stop_after", "0"]) == 0 and "the same command goes on" in capsys.readouterr().out
    monkeypatch.setattr(rows_of_purpose, "SLICE", 10)
    with monkeypatch.context() as patched:
        patched.setattr(rows_of_purpose, "filter_records", stop)
        with pytest.raises(KeyboardInterrupt):
            main(args)
    before = (work / "scored.jsonl").read_bytes()
    (work / "scored.jsonl").write_bytes(before[:-5])  # the last line is torn, and written anew
    assert main([*args, "--stages", "one", "--arms", "true", "constant"]) == 0
    results = read_lines(work / "results.jsonl")
    assert [row["arm"] for row in results] == ["true", "constant"]
    heldout, pool = (read_lines(work / f"{name}.jsonl") for name in ("heldout", "pool"))
    written = read_lines(work / "written.jsonl")
    assert [row["id"] for row in written] == [row["id"] for row in pool] and not (work / "scored.jsonl").exists()
    for row in written:
        del row["dropped"]
    assert written[:-1] == [json.loads(line) for line in before.splitlines()[:-1]]
    seen = json.loads((backward_run / "split.json").read_text())
    assert not {row["id"] for row in [*heldout, *pool]} & {*seen["train"], *seen["val"]}
    assert not {row["response"] for row in heldout} & {row["response"] for row in pool}
    for row in results:
        assert row["rows"] == len(pool) and all(len(row[metric]) == len(heldout) == 6 for metric in METRICS)
        known = [value for value in row["log_p"] if value is not None]  # one response is too long for its row
        assert len(known) >= 5 and all(-12 < value < -9 for value in known)  # a random model of 49,152 words: -10.8
    assert results[0]["log_p"] != results[1]["log_p"]
    assert main([*args, "--stages", "one", "--arms", "true", "constant"]) == 0  # nothing is done twice
    assert read_lines(work / "results.jsonl") == results
    assert not list((tmp_path / "runs").glob("true*"))
    capsys.readouterr()
    assert main([str(work), "--table"]) == 0
    table = capsys.readouterr().out
    assert f"| true | {len(pool)} | 1 |" in table and "| low_gain |" in table
    assert main([*args, "--seed_rows", "7"]) == 2
    assert "another seed_rows" in capsys.readouterr().err
    data.write_text(data.read_text() + "\n")
    assert main(args) == 2 and "another data" in capsys.readouterr().err


@pytest.fixture
def rows(tmp_path):
    """Six rows of the pool, of which the third was dropped and the fourth got no instruction; a seed of four."""
    parts = {}
    for name, count in (("seed", 4), ("pool", 6), ("val", 1)):
        lines = [{"id": f"{name}{n}", "instruction": f"{name} {n}?", "response": f"{name} {n}."} for n in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        parts[name] = load_examples(str(tmp_path / f"{name}.jsonl"))[0]
    written = [
        {"instruction": f"w{n}", "greedy": f"g{n}", "gain": n, "rifd": n, "votes": None, "dropped": ""}
        for n in range(6)
    ]
    written[2]["dropped"], written[3]["instruction"] = "copy", " "
    return Rows(**parts, written=written, early={"5": [f"e{n}" for n in range(6)]})


def test_tables_of_what_was_never_begun_are_refused(tmp_path, capsys):
    work = tmp_path / "which"
    assert main([str(work), "--table"]) == 2
    told = capsys.readouterr().err
    assert told == f"purpose: {work}: no instructions were written there yet; call it with --data FILE first\n"


def test_a_folder_in_use_is_refused(tmp_path, capsys):
    with FileLock(tmp_path / "lock"):
        assert main([str(tmp_path), "--data", "rows.jsonl"]) == 2
    assert "in use by another process" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError("No space left"), RuntimeError("CUDA error"), UserError("no rows")])
def test_whatever_ends_an_arm_is_said(monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(work, "run_task", fail)
    found = work.try_task(argparse.Namespace(), work.Task("true", 3, 42))
    assert isinstance(found, UserError) and str(found) == f"true x 3, seed 42: {error}"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process that its parent has ended")
def test_workers_end_with_their_parent(tmp_path):
    code = "import sys; from tests.corpus.test_purpose import begin_sleepers; begin_sleepers(sys.argv[1])"
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        wait_until_two_sleep(tmp_path, parent)
        workers = [psutil.Process(int(path.stem)) for path in tmp_path.glob("*.pid")]
    finally:
        parent.kill()
        parent.wait()
    assert not psutil.wait_procs(workers, timeout=60)[1]


def begin_sleepers(folder: str) -> None:
    options = argparse.Namespace(jobs=2, gpus=1, runs=Path(folder), deadline=0.0)
    with open_workers(options) as work_on:
        list(work_on(sleep, [None, None]))


def sleep(options: argparse.Namespace, item: None) -> None:
    (options.runs / f"{os.getpid()}.pid").touch()
    time.sleep(600)


def wait_until_two_sleep(folder: Path, parent: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 120
    while len(list(folder.glob("*.pid"))) < 2:
        assert time.monotonic() < end and parent.poll() is None
        time.sleep(0.1)


def test_arms_have_their_rows_and_instructions(rows, tmp_path):
    def pairs(arm, seed=42):
        return choose_pairs(arm, rows, seed, tmp_path)

    assert pairs("true") == [(n, f"pool {n}?") for n in range(6)]
    assert pairs("consensus") == [(0, "w0"), (1, "w1"), (2, "w2"), (3, "pool 3."), (4, "w4"), (5, "w5")]
    assert [n for n, _ in pairs("filtered")] == [0, 1, 3, 4, 5]
    assert pairs("greedy")[3] == (3, "g3") and pairs("step-5")[1] == (1, "e1")
    assert len({text for _, text in pairs("constant")}) == 1
    for seed in range(20):  # each instruction once, and none with its own row
        shuffled = pairs("shuffled", seed)
        assert sorted(text for _, text in shuffled) == [f"pool {n}?" for n in range(6)]
        assert all(text != f"pool {n}?" for n, text in shuffled)
    assert [n for n, _ in pairs("gain-50")] == [3, 4, 5] and [n for n, _ in pairs("rifd-50")] == [0, 1, 2]
    assert len(pairs("random-50")) == 3 and pairs("random-50") != pairs("random-50", seed=44)


def test_a_score_takes_as_many_of_each_length(rows, tmp_path):
    """The score is the row's number, so that by itself it takes the last ones, which are long."""
    texts = ["no", "yes", "not now", "one two three four five six", "a b c d e f", "a b c d e f g h"]
    lines = [json.dumps({"id": f"pool{n}", "instruction": "?", "response": text}) for n, text in enumerate(texts)]
    (tmp_path / "pool.jsonl").write_text("\n".join(lines))
    rows = replace(rows, pool=load_examples(str(tmp_path / "pool.jsonl"))[0])
    assert [n for n, _ in choose_pairs("gain_by_length-50", rows, 42, tmp_path)] == [1, 2, 4, 5]
    assert [n for n, _ in choose_pairs("rifd_by_length-50", rows, 42, tmp_path)] == [0, 1, 3, 4]
    assert {"gain_by_length-50", "gain-50"} <= {arm for arm, _ in list_arms(300, [], 3000)["curves"]}


def test_an_arm_has_none_of_the_short_texts_that_the_filters_keep(rows, tmp_path):
    (tmp_path / "filters.json").write_text('{"prompt_lines": []}')
    asked = ("Who wrote the play", "Name the king of trees", "w2", "Which colour has moss", "List two rivers", "Say no")
    for n, record in enumerate(rows.written):
        record |= {"id": f"pool{n}", "text": f"pool {n} of the town by the sea.", "instruction": asked[n]}
        record |= {"ifd": 0.5, "rifd": 0.5}
    rows.written[1]["ifd"], rows.written[3]["text"] = 0.01, "pool 3."
    rows.written[4]["text"] = "Rhine, Po, and then some more of these, as Elbe"
    assert [n for n, _ in choose_pairs("no_short", rows, 42, tmp_path)] == [0, 4]


def test_few_true_rows_grow_by_the_same_rows_whatever_their_instructions(rows, tmp_path):
    def train(arm):
        source = tmp_path / "arm.jsonl"
        count = write_arm(arm, rows, 42, 2, source, tmp_path)
        lines = read_lines(source)
        split = json.loads((tmp_path / "arm.split.json").read_text())
        assert split["train"] == [line["id"] for line in lines[:count]] and split["val"] == ["val0"]
        return lines[:count]

    seed, more, true = train("seed"), train("seed-4"), train("seed+true-4")
    assert len(seed) == 2 and [line["instruction"] for line in seed] == [f"seed {line['id'][4:]}?" for line in seed]
    assert more[:2] == seed == true[:2] and len(more) == 6
    assert [line["id"] for line in more] == [line["id"] for line in true]
    assert all(line["instruction"] == f"pool {line['id'][4:]}?" for line in true[2:])
    assert train("seed-2") == more[:4]
    assert {arm for arm, _ in list_arms(2, [], 20)["seed"]} >= {"seed", "seed-2", "seed-6", "seed+true-20"}
    seeds = [(arm, 3) for arm in ("seed", "seed-2", "seed+true-2", "seed-6", "seed+true-6")]
    assert list_arms(2, [], 6)["seed"] == [*seeds, ("seed_again", 12)] and train("seed_again") == seed


def test_a_planted_difference_is_found_and_noise_is_not():
    generator = np.random.default_rng(0)
    base = generator.normal(-3, 0.5, 200)
    made = {"a": 0.0, "same": 0.0, "better": 0.1}
    systems = {
        name: {
            seed: {metric: (base + more + generator.normal(0, 0.2, 200)).tolist() for metric in METRICS}
            for seed in (42, 43, 44)
        }
        for name, more in made.items()
    }
    systems["base"] = {42: systems["a"][42]}
    cells = compare_all(systems, [("a", "same"), ("a", "better"), ("base", "better")], np.arange(200))
    assert all("p < 0.001" in cell and cell.startswith("+0.") for cell in cells["a", "better"])
    assert not any("p < 0.001" in cell or "p 0.0" in cell for cell in cells["a", "same"])
    assert all("seeds +" in cell for cell in cells["base", "better"])


def test_only_seeds_that_both_have_are_paired():
    """A system of one seed is no base: its seed alone counts, and without one in common there is nothing to compare."""

    def line(value):
        return {metric: [value + n / 8 for n in range(40)] for metric in METRICS}

    systems = {
        "one": {42: line(-3.0)},
        "all": {42: line(-2.5), 43: line(-1.0), 44: line(0.0)},
        "others": {45: line(1.0), 46: line(2.0)},
        "base": {42: line(-4.0), 43: line(-4.0)},  # of two calls with other seeds
    }
    pairs = [("one", "all"), ("all", "others"), ("one", "others"), ("base", "all"), ("base", "others")]
    cells = compare_all(systems, pairs, np.arange(40))
    assert cells.keys() == {("one", "all"), ("base", "all"), ("base", "others")}
    assert all(cell.startswith("+0.5000 [+0.5000, +0.5000]") and "seeds" not in cell for cell in cells["one", "all"])
    assert all(cell.endswith("seeds +1.5000 to +4.0000") for cell in cells["base", "all"])
    assert all(cell.endswith("seeds +5.0000 to +6.0000") for cell in cells["base", "others"])


def test_what_the_backward_run_saw_is_used_no_more():
    said = "The harbour of the old town was built by monks who came over the sea in small boats and stayed."
    seen = build(("a", "Who built the harbour?", said), ("b", "Name a tree of the hills, and why.", "Elm."))
    rows = build(
        ("a", "Another question?", "Another answer of five words."),
        ("c", "What of the walls?", said.upper()),
        ("d", "What of the monks?", said.replace("small", "tiny")),
        ("e", "Name a tree of the hills, and why!", "The ash of the valley, since it bends."),
        ("f", "When does the ferry leave?", "At nine, from the northern pier."),
    )
    assert drop_seen(rows, seen).texts("id") == ["f"]


def test_lines_hold_any_text_and_a_torn_one_is_left_out(tmp_path):
    rows = [{"text": "one\u2028two\x85three\x0cfour\r\n"}, {"text": "five"}]
    write_lines(tmp_path / "rows.jsonl", rows)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"text": "si')
    assert read_lines(tmp_path / "rows.jsonl") == rows and read_lines(tmp_path / "none.jsonl") == []


@pytest.fixture
def call(tmp_path, monkeypatch):
    """call(*options, fails=): the calls of a folder whose parts are chosen and written; trains nothing."""
    work = tmp_path / "work"
    work.mkdir()
    for name in ("heldout", "pool", "written"):
        write_lines(work / f"{name}.jsonl", [{"id": f"{n}"} for n in range(6)])

    def call(*options, fails=""):
        def run_task(options, task):
            if task.arm == fails:
                raise UserError(f"{task.arm} failed")
            return asdict(task) | {"seconds": 1.0}

        monkeypatch.setattr("scripts.purpose.work.run_task", run_task)
        return main([str(work), "--runs", str(tmp_path / "runs"), "--seeds", "42", *options])

    return call, work


def test_an_arm_that_fails_leaves_the_others_and_the_same_command_goes_on(call, capsys):
    call, work = call
    options = ("--stages", "one", "--arms", "true", "constant", "greedy")
    assert call(*options, fails="greedy") == 2
    assert "purpose: greedy x 1, seed 42: greedy failed" in capsys.readouterr().err
    with (work / "results.jsonl").open("a") as file:
        file.write('{"arm": "gre')  # killed in the middle of a line
    assert call(*options) == 0
    assert [row["arm"] for row in read_lines(work / "results.jsonl")] == ["true", "constant", "greedy"]


def test_what_is_mixed_or_not_there_is_refused(call, tmp_path, capsys):
    call, work = call
    assert call("--arms", "best", "--seed_rows", "3") == 2  # which made nothing, and may change
    assert "--arms: best" in capsys.readouterr().err
    assert call("--forward_config", str(tmp_path / "none.yaml")) == 2 and "none.yaml" in capsys.readouterr().err
    (tmp_path / "other.yaml").write_text("model: {lr: 1.0}\n")
    (work / "judged.jsonl").write_text("")
    options, judge = ("--stages", "one", "--arms", "true"), ("--judge", "http://localhost:1", "--judge_model")
    assert call(*options) == 0 and call(*options, *judge, "a") == 0 and call(*options) == 0
    for name, other in (
        ("backward_config", ("--backward_config", str(tmp_path / "other.yaml"))),
        ("judge", (*judge, "b")),
        ("seed_rows", ("--seed_rows", "7")),
    ):
        assert call(*options, *other) == 2
        assert f"made with another {name};" in capsys.readouterr().err


def test_parts_of_another_backward_run_are_refused(backward_run, tmp_path):
    split = json.loads((backward_run / "split.json").read_text())
    write_lines(tmp_path / "seed.jsonl", [{"id": row_id} for row_id in split["train"]])
    check_rows(tmp_path, str(backward_run))
    write_lines(tmp_path / "seed.jsonl", [{"id": row_id} for row_id in split["train"][1:]])
    with pytest.raises(UserError, match="other training rows"):
        check_rows(tmp_path, str(backward_run))
