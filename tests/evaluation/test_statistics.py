"""Intervals cover as often as they say, by groups; p values behave; what is planted is found."""

import numpy as np
import pytest

from revinst.evaluation import statistics
from revinst.evaluation.statistics import (
    adjust_holm,
    bootstrap_interval,
    bootstrap_intervals,
    compare_paired,
    detectable_difference,
    sign_flip_p,
    t_quantile,
)


def draw_clusters(generator: np.random.Generator, num_groups: int, trials: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(values [rows, trials], group of each row): skewed values whose true mean is 1 and that a group mostly shares.

    Groups have 1 to 6 rows.
    """
    groups = np.repeat(np.arange(num_groups), generator.integers(1, 7, size=num_groups))
    shared = generator.gamma(4.0, 0.25, size=(num_groups, trials))[groups]
    return 0.8 * shared + 0.2 * generator.gamma(4.0, 0.25, size=(len(groups), trials)), groups


def coverage(num_groups: int, grouped: bool = True, rounds: int = 4) -> float:
    """The share of simulated intervals, 250 a round, that hold the true mean."""
    generator, hits = np.random.default_rng(0), []
    for trial in range(rounds):
        values, groups = draw_clusters(generator, num_groups, trials=250)
        low, high = bootstrap_intervals(values, groups if grouped else None, seed=trial).T
        hits.append((low <= 1) & (high >= 1))
    return float(np.mean(hits))


@pytest.mark.parametrize("num_groups", [58, 150])
def test_grouped_interval_covers_the_mean_as_often_as_it_says(num_groups):
    assert 0.93 <= coverage(num_groups, rounds=8) <= 0.97


def test_coverage_simulation_sees_wrong_intervals(monkeypatch):
    """Rows taken as independent, 90 % and 98 % in place of 95 %, and few groups without the wider tail."""
    assert coverage(58, grouped=False) < 0.8
    few = coverage(12)
    assert few > 0.92
    for tail, low, high in ((0.05, 0.85, 0.92), (0.01, 0.97, 0.99)):
        monkeypatch.setattr(statistics, "expanded_tail", lambda num_groups, tail=tail: tail)
        assert low < coverage(58) < high
    monkeypatch.setattr(statistics, "expanded_tail", lambda num_groups: 0.025)
    assert coverage(12) < few - 0.02


def test_columns_and_missing_values():
    values = np.array([[0.0, np.nan, 1.0], [1.0, np.nan, 1.0], [0.5, np.nan, np.nan], [0.1, np.nan, 1.0]])
    intervals = bootstrap_intervals(values)
    assert intervals[0].tolist() == bootstrap_interval(values[:, 0])
    assert np.isnan(intervals[1]).all() and intervals[2].tolist() == [1, 1]
    assert np.isnan(bootstrap_interval(np.zeros(0))).all()


@pytest.mark.parametrize(("freedom", "expected"), [(5, 2.5706), (30, 2.0423), (1000, 1.9623)])
def test_t_quantile_is_the_tables(freedom, expected):
    assert t_quantile(0.975, freedom) == pytest.approx(expected, rel=1e-3)


def test_identical_runs():
    values = np.random.default_rng(0).random(200)
    same = compare_paired(values, values.copy())
    assert same.p == 1 and same.difference == 0 and same.ci95 == [0, 0]
    assert (same.wins, same.ties, same.losses) == (0, 200, 0)


def test_planted_difference_is_found_both_ways():
    """+0.05 in 1,000 rows whose differences spread as ROUGE-L's do (0.3)."""
    generator = np.random.default_rng(1)
    a = generator.random(1000)
    b = a + generator.normal(0.05, 0.3, size=1000)
    found = compare_paired(a, b)
    assert found.p < 0.001 and found.ci95[0] > 0 and found.difference == pytest.approx(0.05, abs=0.03)
    assert found.wins > found.losses and found.wins + found.losses == 1000
    back = compare_paired(b, a)
    assert back.p == found.p and back.difference == -found.difference
    assert found.detectable == pytest.approx(2.8 * 0.3 / 1000**0.5, rel=0.1)


def test_p_is_uniform_without_a_difference():
    generator = np.random.default_rng(2)
    p_values = []
    for trial in range(300):
        values, groups = draw_clusters(generator, 60)
        p_values.append(
            sign_flip_p((values[:, 0] - 1) * generator.choice([-1, 1], size=60)[groups], groups, 500, trial)
        )
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.09
    assert 0.45 <= np.mean(p_values) <= 0.55


def test_groups_make_evidence_weaker():
    differences = np.tile(np.random.default_rng(3).normal(0.3, 1, size=30), 10)
    groups = np.tile(np.arange(30), 10)
    assert sign_flip_p(differences) < 0.001 < sign_flip_p(differences, groups)
    assert detectable_difference(differences, groups) > 3 * detectable_difference(differences)
    with np.errstate(all="raise"):
        assert np.isnan(detectable_difference(np.full(9, np.nan))), "a metric that reads none of the rows"


def test_missing_rows_are_left_out_of_a_pair():
    found = compare_paired(np.array([0.1, np.nan, 0.3]), np.array([0.2, 0.5, np.nan]))
    assert found.n == 1 and found.difference == pytest.approx(0.1)


def test_holm():
    assert adjust_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_holm([0.9, 0.8]) == [1, 1] and adjust_holm([]) == []
