"""Picks among several samples, counted by hand."""

import numpy as np
import pytest

from revinst.evaluation.samples import agree, most_agreed, score_samples


def test_agreement_leaves_out_the_text_itself():
    assert agree(["a b", "a b", "c"]) == pytest.approx([0.5, 0.5, 0.0])


def test_agreement_does_not_depend_on_the_order_or_the_script():
    """Sums that do would break ties in another way in `corpus` than in `evaluate`."""
    rng, words = np.random.default_rng(0), ["a", "b", "c", "d", "e"]
    for _ in range(200):
        texts = [" ".join(rng.choice(words, 4)) for _ in range(7)]
        order = rng.permutation(7)
        assert [agree(texts)[place] for place in order] == agree([texts[place] for place in order])
    assert agree(["что такое лёд", "что такое лёд", "да"]) == [0.5, 0.5, 0.0] and agree(["a"]) == [1.0]
    assert most_agreed(["нет", "что такое лёд", "что такое лёд"]) == 1


def test_picks():
    samples = [["name the moon", "x"], ["list the planets", "how far is it"], ["list planets", "how far is it"]]
    references = ["name the moon", "how far is it"]
    log_p = np.array([[-9.0, np.nan], [-3.0, np.nan], [-1.0, -2.0]])
    found = score_samples(samples, references, log_p)
    assert found.picked["best_of_k"].tolist() == [0, 1]
    assert found.picked["consensus"].tolist() == [1, 1]
    assert found.picked["likelihood"].tolist() == [2, 2]
    assert found.scores["best_of_k"]["rougeL"].tolist() == [1, 1]
    assert found.scores["mean"]["rougeL"] == pytest.approx([(1 + 1 / 3 + 0) / 3, 2 / 3])
    assert found.scores["likelihood"]["rougeL"] == pytest.approx([0, 1])
    assert found.self_agreement[1] == pytest.approx(1 / 3)
