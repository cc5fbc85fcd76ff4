"""Ways to use several samples of an example, counted by hand."""

import pytest

from revinst.evaluation.samples import score_samples
from revinst.inference.samples import Sample, Written
from revinst.inference.votes import agree


def write(greedy: str, *samples: tuple[str, float]) -> Written:
    made = [Sample(text, log_p, len(text.split()), "eos") for text, log_p in samples]
    return Written(made, Sample(greedy, -1.0, 3, "eos"))


def test_uses():
    written = [
        write("name the sun", ("name the moon", -9.0), ("list the planets", -3.0), ("list planets", -1.0)),
        write("how far is it", ("x", -1.0), ("how far is it", -2.0), ("how far is it", -2.0)),
    ]
    references = ["name the moon", "how far is it"]
    found = score_samples(written, [agree(each.texts) for each in written], references)
    assert found.picked["best_of_k"].tolist() == [0, 1]
    assert found.picked["consensus"].tolist() == [1, 1]
    assert found.picked["likelihood"].tolist() == [2, 1], "per token: -1/3 and -2/5, EOS counted"
    assert found.scores["best_of_k"]["rougeL"].tolist() == [1, 1]
    assert found.scores["mean"]["rougeL"] == pytest.approx([(1 + 1 / 3 + 0) / 3, 2 / 3])
    assert found.scores["likelihood"]["rougeL"] == pytest.approx([0, 1])
    assert found.scores["greedy"]["rougeL"] == pytest.approx([2 / 3, 1])
