"""How many are written, and which is taken."""

import math

import pytest

from revinst.errors import UserError
from revinst.inference.picks import NUM_SAMPLES, TEMPERATURE, PickSettings, choose_picks
from revinst.inference.samples import Sample, Written, best_number, list_candidates, pick_all


def write(*texts: str, greedy: str | None = None) -> Written:
    made = [Sample(text, -6.0 + n, 5 - n, "eos") for n, text in enumerate(texts)]
    return Written(made, None if greedy is None else Sample(greedy, -1.0, 4, "eos"))


def choose(samples=None, pick=None, temperature=None, default="consensus", device="cpu"):
    return choose_picks(samples, pick, "rougeL", temperature, default, device)


@pytest.mark.parametrize(
    ("asked", "samples", "pick", "temperature"),
    [
        ({}, NUM_SAMPLES["cpu"], "consensus", TEMPERATURE),
        ({"device": "cuda"}, 32, "consensus", TEMPERATURE),
        ({"device": "mps"}, NUM_SAMPLES["cpu"], "consensus", TEMPERATURE),
        ({"pick": "greedy"}, 1, "greedy", 0),
        ({"temperature": 0}, 1, "greedy", 0),
        ({"samples": 1}, 1, "greedy", 0),
        ({"samples": 1, "temperature": 0.9}, 1, "greedy", 0.9),
        ({"samples": 5, "pick": "greedy"}, 5, "greedy", TEMPERATURE),
        ({"temperature": 0.9, "pick": "likelihood"}, NUM_SAMPLES["cpu"], "likelihood", 0.9),
        ({"default": "greedy"}, 1, "greedy", 0),
        ({"default": "greedy", "temperature": 1}, 1, "greedy", 1),
        ({"default": "greedy", "samples": 5}, 5, "greedy", TEMPERATURE),
        ({"default": "greedy", "pick": "consensus", "device": "cuda"}, 32, "consensus", TEMPERATURE),
        ({"default": ""}, 1, "", 0),
        ({"default": "", "samples": 3, "temperature": 1}, 3, "", 1),
    ],
    ids=str,
)
def test_what_was_not_said(asked, samples, pick, temperature):
    assert choose(**asked) == (PickSettings(samples, pick), temperature)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"samples": 0}, "at least 1"),
        ({"samples": 3, "temperature": 0}, "all the same"),
        ({"pick": "consensus", "temperature": 0}, "all the same"),
        ({"pick": "consensus", "samples": 1}, "nothing to pick of one"),
        ({"pick": "greedy", "temperature": 1}, "the greedy text has none"),
        ({"pick": "likeliest"}, "choose from greedy, consensus"),
        ({"pick": "consensus", "default": ""}, "only instructions are picked"),
        ({"samples": 3, "default": ""}, "all the same"),
    ],
    ids=str,
)
def test_what_means_nothing(asked, says):
    with pytest.raises(UserError, match=says):
        choose(**asked)


def test_the_first_line_says_what_more_would_cost():
    assert "32, a GPU's default, would take 4 times as long on this CPU" in PickSettings(8, "consensus").say(0.7, "cpu")
    assert "would take" not in PickSettings(32, "consensus").say(0.7, "cuda")
    assert PickSettings().say(0, "cpu") == "one greedy text each"


def test_picks():
    written = [write("a star", "what is a comet", "what is a star", greedy="a comet"), write("x", "y", "z", greedy="g")]
    helps = [[0.5, 0.1, math.nan], [math.nan, math.nan, 1.0]]

    def numbers(pick: str) -> list[int | None]:
        return [each.number for each in pick_all(written, PickSettings(3, pick), lambda: helps)]

    assert numbers("consensus") == [2, 0] and numbers("round_trip") == [0, 2] and numbers("") == [0, 0]
    assert [sample.log_p_a_token for sample in written[0].samples] == [-1.0, -1.0, -1.0]
    assert numbers("likelihood") == [0, 0], "of equals the first"
    assert numbers("greedy") == [None, None]
    assert [each.taken.text for each in pick_all(written, PickSettings(3), lambda: helps)] == ["a comet", "g"]
    (alone,) = pick_all([write("a")], PickSettings(), lambda: helps)
    assert alone.taken.text == "a" and alone.votes == [1.0]


def test_an_empty_text_never_wins_while_another_is_there():
    assert best_number(["", " ", "a"], [0.9, 0.8, math.nan]) == 2 and best_number(["", ""], [0.1, 0.2]) == 1
    (picked,) = pick_all([write("", "", "", "why", "how")], PickSettings(5, "consensus"), lambda: [])
    assert picked.taken.text == "why"
    (picked,) = pick_all([write("", "", "a", "b")], PickSettings(4, "likelihood"), lambda: [])
    assert picked.taken.text == "a"


def test_candidates_are_kept_once():
    written = write("Name a salt!", "name a salt", "why", greedy="why")
    found = list_candidates(written, [0.5, 0.4, 0.2])
    assert [(each.sample.text, each.number, each.times, each.votes) for each in found] == [
        ("why", None, 1, 0.2),
        ("Name a salt!", 0, 2, 0.5),
    ]


def test_log_p_a_token_counts_what_ended_it():
    assert Sample("a", -6.0, 2, "eos").log_p_a_token == -2 and Sample("a", -6.0, 2, "length").log_p_a_token == -3
    assert Sample("", -6.0, 0, "length").log_p_a_token == -6
