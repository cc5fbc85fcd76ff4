"""Picks among several samples, counted by hand."""

import numpy as np
import pytest

from revinst.evaluation.samples import agree, score_samples


def test_agreement_leaves_out_the_text_itself():
    assert agree(["a b", "a b", "c"]) == pytest.approx([0.5, 0.5, 0.0])


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
