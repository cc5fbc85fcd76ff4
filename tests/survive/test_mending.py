"""Two ranks on the CPU: one dies or hangs, all start again, and the end is bit-equal."""

import json
import signal

import psutil
import pytest

from tests.survive.faults import assert_equal, count_lost, state_of
from tests.survive.two_ranks import ranks_of, start, wait_for_steps

pytestmark = pytest.mark.wide


def bad_rank(folder, name: str, how: str, step: int, times: int) -> dict[str, object]:
    keys = {"how": how, "step": step, "times": times, "count": folder / f"{name}.count"}
    bad = {"class_path": "tests.survive.bad_rank.BadRank", "init_args": {key: str(keys[key]) for key in keys}}
    bad["init_args"] |= {"step": step, "times": times}
    return {"trainer.callbacks": json.dumps([bad])}


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_starts_again(folder, tiny_llama, whole_ranks, fault, victim):
    name = f"mended-{victim}"
    process, run = start(folder, tiny_llama, name, **{"launch.max_restarts": 1}), folder / name
    wait_for_steps(process, run, 5)
    with fault("SIGKILL of one of two ranks, started again") as counts:
        ranks_of(process)[victim].send_signal(signal.SIGKILL)
        counts["injected"] += 1
        assert process.wait(240) == 0, run.with_suffix(".log").read_text()[-3000:]
        counts["bytes_lost"] += count_lost(state_of(run), whole_ranks)
        assert_equal(state_of(run), whole_ranks)
    (restart,) = json.loads((run / "manifest.json").read_text())["restarts"]
    assert restart["rank"] == victim and "SIGKILL" in restart["reason"] and 4 < restart["step"] < 16
    line = f"revinst fit: rank {victim} {restart['reason']} at step {restart['step']}; all ranks start again, 1 of 1\n"
    assert run.with_suffix(".log").read_text().count(line) == 1


@pytest.mark.parametrize("how", ["sleep", "stop"])
def test_a_rank_that_hangs(folder, tiny_llama, whole_ranks, fault, how):
    options = bad_rank(folder, how, how, 5, 1) | {"launch.max_restarts": 1, "launch.hang_s": 8, "resume": "never"}
    run = folder / how
    with fault("one of two ranks hangs") as counts:
        counts["injected"] += 1
        process = start(folder, tiny_llama, how, **options)
        assert process.wait(240) == 0, run.with_suffix(".log").read_text()[-3000:]
        counts["bytes_lost"] += count_lost(state_of(run), whole_ranks)
        assert_equal(state_of(run), whole_ranks)
    (restart,) = json.loads((run / "manifest.json").read_text())["restarts"]
    assert "has not moved for" in restart["reason"] and restart["step"] == 5
    assert {path.name for path in (run / "hangs").iterdir()} == {f"step-000005-rank-{rank}.txt" for rank in (0, 1)}
    assert "optimizer_step" in (run / "hangs" / "step-000005-rank-1.txt").read_text()
    assert "distributed_c10d.py" in (run / "hangs" / "step-000005-rank-0.txt").read_text(), "waits for the other"


def test_a_hang_without_restarts_ends(folder, tiny_llama, whole_ranks):
    options = bad_rank(folder, "hung", "stop", 3, 1) | {"launch.hang_s": 8}
    process = start(folder, tiny_llama, "hung", **options)
    wait_for_steps(process, folder / "hung", 2)
    ranks = ranks_of(process)
    assert process.wait(120) == 1 and not psutil.wait_procs(ranks, timeout=10)[1]
    assert (
        "hangs" in (folder / "hung.log").read_text()
        and (folder / "hung" / "hangs" / "step-000003-rank-1.txt").is_file()
    )
    assert start(folder, tiny_llama, "hung", **options).wait(240) == 0
    assert_equal(state_of(folder / "hung"), whole_ranks)


def test_twice_at_the_same_step(folder, tiny_llama):
    """It stops, and names the rows."""
    options = bad_rank(folder, "twice", "die", 5, 9) | {"launch.max_restarts": 5}
    assert start(folder, tiny_llama, "twice", **options).wait(240) == 1
    said = (folder / "twice.log").read_text().splitlines()
    lines = [line for line in said if line.startswith("revinst fit: rank 1 ended with SIGKILL")]
    assert len(lines) == 2 and "all ranks start again, 1 of 5" in lines[0]
    assert "at step 5, as before" in lines[1]
    rows = lines[1].split("the step's rows: ")[1].split(", ")
    split = json.loads((folder / "twice" / "split.json").read_text())
    assert len(set(rows)) == 4 and set(rows) <= set(split["train"])


def test_a_mistake_is_not_made_twice(folder, tiny_llama):
    options = {"launch.max_restarts": 3, "data.source": folder / "nothing.jsonl"}
    assert start(folder, tiny_llama, "mistaken", **options).wait(120) == 2
    assert (folder / "mistaken.log").read_text().count("revinst fit: ") == 1
