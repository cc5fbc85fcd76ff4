"""Property 10: ROUGE equals Google's `rouge_score`; floors are always beside a score."""

import random
import re

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from revinst.evaluation.baselines import build_baselines
from revinst.evaluation.report import build_table, write_report
from revinst.evaluation.scores import METRICS, USE_STEMMER, score_rows, summarise_scores
from revinst.evaluation.statistics import bootstrap_interval

FIXED = [
    ("What is the capital of France?", "Which city is the capital of France?"),
    ("Give me a list of running shoes", "List the shoes that runners like"),
    ("", "What is a comet?"),
    ("identical words here", "identical words here"),
    ("Que é isto?", "Was ist das?"),
    ("one", "two"),
    ("the the the", "the cat the dog the"),
    ("Don't stop-gap 3.5% it's", "dont stop gap 35 its"),
]
WORDS = re.findall(r"\S+", "how do you make runs running ran the a of what list city's cities 12 re-use x")


def random_pairs(count: int) -> list[tuple[str, str]]:
    draw = random.Random(0)
    return [
        (" ".join(draw.choices(WORDS, k=draw.randint(0, 25))), " ".join(draw.choices(WORDS, k=draw.randint(1, 25))))
        for _ in range(count)
    ]


def test_rouge_equals_googles():
    pairs = FIXED + random_pairs(300)
    scores = score_rows([a for a, _ in pairs], [b for _, b in pairs])
    reference = RougeScorer(list(METRICS), use_stemmer=USE_STEMMER)
    for row, (prediction, target) in enumerate(pairs):
        expected = reference.score(target, prediction)
        for name in METRICS:
            assert scores[name][row] == pytest.approx(expected[name].fmeasure, abs=1e-6), (prediction, target, name)
    assert 0.1 < scores["rougeL"].mean() < 0.9 and scores["rougeL"][3] == 1


def test_unequal_lengths_are_refused():
    with pytest.raises(AssertionError, match="2 predictions, 1 references"):
        score_rows(["a", "b"], ["a"])


def test_baselines_are_what_they_say():
    responses = ["Comets are balls of ice and dust that orbit the Sun.", "Six"]
    floors = build_baselines(responses, ["How do I cook rice?"])
    assert floors["lead_words"] == ["Comets are balls of ice and dust", "Six"]
    assert floors["what_is"] == ["What is Comets are balls of ice and dust?", "What is Six?"]
    assert floors["random_instruction"] == ["How do I cook rice?"] * 2


def summary() -> dict:
    scores = {name: np.array([0.2, 0.4, 0.9]) for name in METRICS}
    floors = {name: scores for name in ("base", "random_instruction", "lead_words", "what_is")}
    return summarise_scores(scores, ["qa", "qa", "poem"], floors, {"base": "x"})


def test_summary_has_means_intervals_and_categories():
    result = summary()
    assert result["n"] == 3 and result["metrics"]["rougeL"]["mean"] == pytest.approx(0.5)
    low, high = result["metrics"]["rougeL"]["ci95"]
    assert 0.2 <= low < 0.5 < high <= 0.9
    assert result["by_category"]["qa"] == {"n": 2, **{name: pytest.approx(0.3) for name in METRICS}}


def test_no_score_without_floors():
    scores = {name: np.array([1.0]) for name in METRICS}
    with pytest.raises(AssertionError, match="what_is"):
        summarise_scores(scores, ["qa"], {"base": scores, "random_instruction": scores, "lead_words": scores}, {})


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = bootstrap_interval(generator.exponential(size=80), num_samples=300, seed=trial)
        hits += low <= 1 <= high
    assert 0.89 <= hits / 200 <= 0.98


def test_report_escapes_what_comes_from_data(tmp_path):
    rows = [{"response": "<script>alert(1)</script>", "reference": "a & b", "prediction": "<b>", "rougeL": 0.5}]
    write_report(tmp_path / "report.html", "run", summary(), rows)
    html = (tmp_path / "report.html").read_text()
    assert "<script>" not in html and "&lt;script&gt;alert(1)&lt;/script&gt;" in html and "a &amp; b" in html
    assert "http://" not in html and "https://" not in html
    assert "what_is" in html and build_table(summary()).row_count == 5
