"""Each filter drops what it names and no more; counts add up."""

import multiprocessing

import pytest

from revinst.corpus import filters
from revinst.corpus.filters import Thresholds, filter_rows, parse_thresholds
from revinst.errors import UserError

GOOD = {
    "text": "Fry the onions slowly, then add carrots, cumin and the red lentils. Vinegar goes in at the end.",
    "instruction": "Explain how you cook a good lentil soup at home.",
    "gain": 0.4,
    "ifd": 0.67,
    "rifd": 0.5,
    "rating": 5,
}
LINES = ["### Input:", "Use the Input below to create an instruction"]
CASES = [
    ("empty", {"instruction": "  "}),
    ("too_short", {"text": "Yes, fine."}),
    ("too_long", {"text": "many words " * 1000}),
    ("instruction_too_short", {"instruction": "Cook soup."}),
    ("instruction_too_long", {"instruction": "Explain " + " ".join(f"step{n}" for n in range(120))}),
    ("prompt_echo", {"instruction": "Explain the soup. ### Input: fry the onions"}),
    ("meta_instruction", {"instruction": "Write an instruction about cooking soup with lentils."}),
    ("meta_instruction", {"instruction": "As an AI I do not cook any soup myself."}),
    ("copy", {"instruction": "Fry the onions slowly, then add carrots"}),
    ("looping", {"instruction": "Cook the soup again and cook the soup again and cook the soup again and so on"}),
    ("dangling_reference", {"instruction": "Summarise this article about lentil soup."}),
    ("dangling_reference", {"instruction": "What does the cook do, according to the text?"}),
    ("dangling_reference", {"instruction": "Summarise the text about lentil soup."}),
    ("wrong_language", {"instruction": "Erkläre mir bitte, wie du zu Hause eine gute Linsensuppe kochst."}),
    ("low_gain", {"gain": -0.1}),
    ("low_gain", {"gain": None}),
    ("ifd_low", {"ifd": 0.01}),
    ("ifd_high", {"ifd": 1.2}),
    ("rifd_high", {"rifd": 1.1}),
    ("low_rating", {"rating": 3}),
    ("low_rating", {"rating": None}),
]


def run(*rows, **limits):
    named = [GOOD | {"id": str(number)} | row for number, row in enumerate(rows)]
    return filter_rows(named, Thresholds(**limits), LINES, rated=True)


@pytest.mark.parametrize(("name", "change"), CASES, ids=[name for name, _ in CASES])
def test_filter(name, change):
    dropped = run(change)
    assert dropped[0][0] == name and dropped[0][1]
    assert {row["name"]: row["dropped"] for row in dropped.to_json()}[name] == 1
    dropped = run({})
    assert not dropped, "the row without the change stays"


def test_counts_add_up():
    rows = [change for _, change in CASES] + [{}, {}]
    dropped = run(*rows)
    counts = dropped.to_json()
    assert sum(row["dropped"] for row in counts) == len(dropped) == len(rows) - 1, "of the good ones the first stays"
    left = len(rows)
    for row in counts:
        assert row["kept"] == left - row["dropped"]
        left = row["kept"]
    assert left == 1


@pytest.mark.parametrize(
    ("text", "instruction"),
    [
        (
            "Robert Downey Jr., Chris Evans, Mark Ruffalo, Chris Hemsworth, Scarlett Johansson, Jeremy Renner",
            "What are the names of the men in the film?",
        ),
        (
            "2021-2022: Winner Manchester City, Runner-up Liverpool\n2020-2021: Winner Manchester City",
            "What are the names of the teams in the Premier League?",
        ),
    ],
)
def test_a_language_that_is_not_plain_drops_nothing(text, instruction):
    assert dict(run({"text": text, "instruction": instruction})) == {}


@pytest.mark.wide  # starts processes
def test_many_rows_are_judged_in_processes(monkeypatch):
    rows = [change for _, change in CASES] * 3
    expected = dict(run(*rows))
    monkeypatch.setattr(filters, "PARALLEL_FROM", 1)
    monkeypatch.setattr(filters, "CHUNK_ROWS", 8)
    monkeypatch.setattr(filters, "count_processors", lambda: 2)
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
    dropped = run({}, {"text": like, "instruction": "What did you make for dinner last night?"}, other)
    assert set(dropped) == {1} and dropped[1] == ("duplicate_text", "like the row 0")
    again = other | {"instruction": GOOD["instruction"].upper()}
    dropped = run({}, again)
    assert dropped == {1: ("duplicate_instruction", "like the row 0")}
    assert run({}, again, duplicate_instruction=None) == {}


def test_thresholds():
    limits = parse_thresholds(["min_words=10", "language=off", "max_ifd=off"])
    assert (limits.min_words, limits.language, limits.max_ifd, limits.max_words) == (10, None, None, 1500)
    for wrong in ("min_word=3", "min_words", "min_words=many", "language=3"):
        with pytest.raises(UserError, match="--filter"):
            parse_thresholds([wrong])
    names = {row["name"] for row in run({}, language=None, max_ifd=None).to_json()}
    assert "wrong_language" not in names and "ifd_high" not in names and "ifd_low" in names
