"""Which silence is a hang: not a checkpoint or samples, and not the wait for a rank that is busy."""

import pytest

from revinst.launch import heartbeat
from revinst.launch.heartbeat import AT_REST, FLOOR_S, Heartbeat, RankFiles, Watch
from revinst.launch.ranks import AGENT, AGENT_FOLDER


@pytest.fixture
def hearts(tmp_path, monkeypatch):
    """hearts(hang_s): of two ranks; the agent's watch looks every second."""
    monkeypatch.setattr(heartbeat, "SHOW_STACK", None)
    monkeypatch.setenv(AGENT, "1")
    monkeypatch.setenv(AGENT_FOLDER, str(tmp_path))

    def make(hang_s):
        made = []
        for rank in ("0", "1"):
            monkeypatch.setenv("RANK", rank)
            made.append(Heartbeat(hang_s))
        return made, Watch([RankFiles(tmp_path, rank) for rank in (0, 1)], 1.0)

    return make


def looks(watch, count: int) -> list:
    return [watch.find_hung() for _ in range(count)]


def test_a_rank_that_does_not_move(hearts):
    (first, second), watch = hearts(10)
    assert looks(watch, 50) == [None] * 50, "no step has begun: the base is loaded"
    first.beat(1)
    assert looks(watch, 50) == [None] * 50, "the other one loads it still"
    second.beat(1)
    assert looks(watch, 5) == [None] * 5
    first.beat(2)
    assert looks(watch, 6) == [None] * 6 and looks(watch, 1) == [1], "it stopped first"
    second.beat(2)
    assert looks(watch, 1) == [None]


def test_what_takes_long_is_no_hang(hearts):
    """A checkpoint of all, samples of the first rank while the other waits in its step; but not for ever."""
    (first, second), watch = hearts(10)
    for heart in (first, second):
        heart.beat(1)
    first.rest(1)
    assert set(looks(watch, 10 * AT_REST)) == {None} and looks(watch, 3)[-1] is not None
    first.beat(1)
    second.beat(1)
    assert looks(watch, 2) == [None] * 2


def test_the_limit_is_of_the_longest_step(hearts, monkeypatch):
    (first, _), watch = hearts("auto")
    now = iter([0.0, 100.0, 130.0, 131.0])
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: next(now))
    first.beat(0)
    assert watch.ranks[0].read_beat().limit_s == FLOOR_S
    first.beat(1)
    assert watch.ranks[0].read_beat().limit_s == 20 * 100
    first.rest(1)
    assert watch.ranks[0].read_beat().limit_s == 20 * 100 * AT_REST
    first.beat(2)  # 30 s that were no step
    assert watch.ranks[0].read_beat() == (4, 2, 20 * 100)


def test_without_a_limit_nothing_hangs(hearts):
    (first, second), watch = hearts(0)
    first.beat(1)
    second.beat(1)
    assert set(looks(watch, 5000)) == {None}


def test_rows_are_noted_where_a_rank_died_before(hearts, tmp_path):
    (tmp_path / "died-at").write_bytes(b"3")
    (first, second), watch = hearts("auto")
    for step in (2, 3, 4):
        first.beat(step, [f"a{step}", "ü"])
        second.beat(step, [f"b{step}"])
    assert [rank.read_rows() for rank in watch.ranks] == [["a3", "ü"], ["b3"]]
    watch.ranks[0].forget()
    assert watch.ranks[0].read_rows() == [] and watch.ranks[0].read_beat() is None


def test_without_our_agent_there_is_no_file(tmp_path, monkeypatch):
    monkeypatch.delenv(AGENT, raising=False)
    heart = Heartbeat("auto")
    heart.beat(1, ["a"])
    heart.rest(1)
    assert not list(tmp_path.iterdir())
