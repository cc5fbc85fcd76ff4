"""Property 10: ROUGE equals Google's `rouge_score`, and torchmetrics', on fixed and random strings."""

import doctest
import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from torchmetrics.functional.text.rouge import rouge_score

from revinst.evaluation import rouge
from revinst.evaluation.rouge import ROUGE_METRICS, lcs_table, score_rouge, split_stems

GOOGLE = RougeScorer(list(ROUGE_METRICS), use_stemmer=True)
FIXED = [
    ("What is the capital of France?", "Which city is the capital of France?"),
    ("Give me a list of running shoes", "List the shoes that runners like"),
    ("", "What is a comet?"),
    ("", ""),
    ("...", "?"),
    ("identical words here", "identical words here"),
    ("Que é isto?", "Was ist das?"),
    ("Что это такое?", "Что это такое?"),
    ("İstanbul ve K", "istanbul ve k"),
    ("one", "two"),
    ("the the the", "the cat the dog the"),
    ("Don't stop-gap 3.5% it's", "dont stop gap 35 its"),
    ("first line\nsecond line\n\nthird", "second line\nfirst third line"),
    ("a b c\r\nb c d\x85e f", "b a c d\ne\u2028f"),
]
WORDS = re.findall(
    r"\S+", "how do you make runs running ran the a of what list city's cities 12 re-use x generalization"
)


def random_pairs(count: int) -> list[tuple[str, str]]:
    draw = random.Random(0)

    def text() -> str:
        return "".join(word + draw.choice("    \n") for word in draw.choices(WORDS, k=draw.randint(0, 25)))

    return [(text(), text()) for _ in range(count)]


def assert_equal(prediction: str, reference: str) -> None:
    expected = GOOGLE.score(reference, prediction)
    for name, value in zip(ROUGE_METRICS, score_rouge(prediction, reference), strict=True):
        assert value == pytest.approx(expected[name].fmeasure, abs=1e-12), (prediction, reference, name)


def test_equals_googles():
    pairs = FIXED + random_pairs(1000)
    for prediction, reference in pairs:
        assert_equal(prediction, reference)
    scores = [score_rouge(*pair) for pair in pairs]
    assert sum(l_sum != l_whole for _, _, l_whole, l_sum in scores) > 100
    assert 0.1 < sum(values[2] for values in scores) / len(scores) < 0.9


line = st.text(st.sampled_from("abcdes \n'9é"), max_size=40)


@settings(max_examples=300, deadline=None)
@given(st.one_of(line, st.text(max_size=40)), st.one_of(line, st.text(max_size=40)))
def test_equals_googles_on_any_text(prediction, reference):
    assert_equal(prediction, reference)


def test_equals_torchmetrics():
    """Its ROUGE-Lsum is left out: it splits sentences with a model that it downloads."""
    for prediction, reference in FIXED + random_pairs(100):
        expected = rouge_score(prediction, reference, use_stemmer=True, rouge_keys=ROUGE_METRICS[:3])
        for name, value in zip(ROUGE_METRICS, score_rouge(prediction, reference)[:3], strict=False):
            assert value == pytest.approx(float(expected[f"{name}_fmeasure"]), abs=1e-6), (prediction, reference)


def test_rows_are_those_of_the_docstring():
    rows = lcs_table(split_stems("how do comets form"), split_stems("how comets melt"))
    assert [f"{row:04b}" for row in rows] == ["1111", "1110", "1010", "1010"]
    assert doctest.testmod(rouge).attempted == 1 and doctest.testmod(rouge).failed == 0


def test_much_faster_than_torchmetrics():
    """On texts of one line, as instructions are."""
    pairs = [(a.replace("\n", " "), b.replace("\n", " ")) for a, b in random_pairs(2000)]
    start = time.perf_counter()
    for pair in pairs:
        score_rouge(*pair)
    ours = (time.perf_counter() - start) / len(pairs)
    start = time.perf_counter()
    for prediction, reference in pairs[:20]:
        rouge_score(prediction, reference, use_stemmer=True, rouge_keys=ROUGE_METRICS[:3])
    assert ours < (time.perf_counter() - start) / 20 / 5
