"""Each filter drops what it names and no more."""

import pytest

from revinst.corpus.filters import Thresholds, parse_thresholds
from revinst.errors import UserError
from tests.corpus.made_records import CASES, run


@pytest.mark.parametrize(("name", "change"), CASES, ids=[name for name, _ in CASES])
def test_filter(name, change):
    dropped = run(change)
    assert dropped[0][0] == name and dropped[0][1]
    assert {row["name"]: row["dropped"] for row in dropped.to_json()}[name] == 1
    dropped = run({})
    assert not dropped, "the row without the change stays"


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


def test_thresholds():
    limits = parse_thresholds(["min_words=10", "language=off", "max_ifd=off"])
    assert (limits.min_words, limits.language, limits.max_ifd, limits.max_words) == (10, None, None, 1500)
    for wrong in ("min_word=3", "min_words", "min_words=many", "language=3"):
        with pytest.raises(UserError, match="--filter"):
            parse_thresholds([wrong])
    assert (Thresholds().min_words, Thresholds().min_ifd) == (None, None)  # short texts stay
    for name in ("min_words", "min_ifd"):
        with pytest.raises(UserError, match=f"{name} is off unless a number is given"):
            parse_thresholds([f"{name}=on"])
    names = {row["name"] for row in run({}, language=None, max_ifd=None).to_json()}
    assert "wrong_language" not in names and "ifd_high" not in names and "ifd_low" in names
