"""Counts add up, in one process and in many; of near-duplicates the first stays."""

import multiprocessing

import pytest

from revinst.corpus import dropped
from tests.corpus.made_records import CASES, GOOD, run


def test_counts_add_up():
    rows = [change for _, change in CASES] + [{}, {}]
    found = run(*rows)
    counts = found.to_json()
    assert sum(row["dropped"] for row in counts) == len(found) == len(rows) - 1, "of the good ones the first stays"
    left = len(rows)
    for row in counts:
        assert row["kept"] == left - row["dropped"]
        left = row["kept"]
    assert left == 1


@pytest.mark.wide  # starts processes
def test_many_rows_are_judged_in_processes(monkeypatch):
    rows = [change for _, change in CASES] * 3
    expected = dict(run(*rows))
    monkeypatch.setattr(dropped, "PARALLEL_FROM", 1)
    monkeypatch.setattr(dropped, "CHUNK_RECORDS", 8)
    monkeypatch.setattr(dropped, "count_processors", lambda: 2)
    start, started = multiprocessing.context.SpawnContext.Pool, []
    monkeypatch.setattr(
        multiprocessing.context.SpawnContext, "Pool", lambda *args: (started.append(args[1]), start(*args))[1]
    )
    assert dict(run(*rows)) == expected and started == [2] and len(expected) == len(rows)


def test_near_duplicates():
    like = GOOD["text"].replace("cumin", "salt")
    other = {
        "text": "The train leaves at seven, so let us take the early one.",
        "instruction": "When do we leave then?",
    }
    found = run({}, {"text": like, "instruction": "What did you make for dinner last night?"}, other)
    assert set(found) == {1} and found[1] == ("duplicate_text", "like the row 0")
    again = other | {"instruction": GOOD["instruction"].upper()}
    found = run({}, again)
    assert found == {1: ("duplicate_instruction", "like the row 0")}
    assert run({}, again, duplicate_instruction=None) == {}
