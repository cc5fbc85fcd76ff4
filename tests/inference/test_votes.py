"""Agreement of texts against plain definitions."""

import numpy as np
import pytest

from revinst.data.words import split_words
from revinst.evaluation.rouge import lcs_length
from revinst.evaluation.sacrebleu_scores import load_chrf
from revinst.evaluation.unicode_rouge import score_split
from revinst.inference.votes import LIKENESS, agree, compare_chrf, compare_rouge_l, lcs_lengths
from tests.cpu_time import seconds

RNG = np.random.default_rng(0)
WORDS = ["a", "b", "c", "d", "лёд", "你好", "no-one"]
TEXTS = [" ".join(RNG.choice(WORDS, RNG.integers(0, 9))) for _ in range(24)]


def test_agreement_leaves_out_the_text_itself():
    assert agree(["a b", "a b", "c"]) == [0.5, 0.5, 0.0] and agree(["a"]) == [1.0]
    assert agree(["что такое лёд", "что такое лёд", "да"]) == [0.5, 0.5, 0.0]
    assert agree(["", "", "a"]) == [0.0, 0.0, 0.0]


def test_subsequences_of_all_at_once():
    lists = [list(RNG.choice(list("abcd"), RNG.integers(0, 70))) for _ in range(12)]
    found = lcs_lengths(lists)
    assert found == [[lcs_length(theirs, ours) for theirs in lists] for ours in lists]
    assert max(map(max, found)) > 64, "more than one word of a machine"


def test_likeness_is_the_metric():
    """ROUGE-L of unstemmed words, sacrebleu's chrF, and the mean of both."""
    rouge_l, chrf = compare_rouge_l(TEXTS), compare_chrf(TEXTS)
    for ours, row, chrf_row in zip(TEXTS, rouge_l, chrf, strict=True):
        expected = [score_split(split_words(ours), split_words(theirs), "")[2] for theirs in TEXTS]
        assert row == pytest.approx(expected, abs=1e-12)
        expected = [load_chrf().sentence_score(ours, [theirs]).score / 100 for theirs in TEXTS]
        assert chrf_row == pytest.approx(expected, abs=1e-9)
    assert LIKENESS["mean"](TEXTS)[3][5] == pytest.approx((rouge_l[3][5] + chrf[3][5]) / 2)
    assert len({value for row in rouge_l for value in row}) > 20


@pytest.mark.parametrize("utility", LIKENESS)
def test_equal_texts_count_as_often_as_they_were_written(utility):
    texts = [TEXTS[number] for number in RNG.integers(0, 8, 32)]
    likeness = LIKENESS[utility](texts)
    plain = [sum(row[:n]) + sum(row[n + 1 :]) for n, row in enumerate(likeness)]
    assert agree(texts, utility) == pytest.approx([value / 31 for value in plain])
    assert len(set(texts)) < 9


def test_agreement_does_not_depend_on_the_order():
    """Sums that do would break ties in another way in `corpus` than in `evaluate`."""
    for _ in range(100):
        texts = [" ".join(RNG.choice(["a", "b", "c", "d", "e"], 4)) for _ in range(7)]
        order = RNG.permutation(7)
        assert [agree(texts)[place] for place in order] == agree([texts[place] for place in order])


def test_votes_take_seconds():
    """15,000 rows of 32 samples: 300 of them in a fiftieth of a minute, on whatever machine and however busy."""
    rows = [[" ".join(RNG.choice(TEXTS, 3)) for _ in range(32)] for _ in range(300)]
    assert seconds(lambda: [agree(row) for row in rows]) < 1.2
