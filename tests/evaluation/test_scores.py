"""Every metric on texts small enough to count; equal to the reference packages; fast; no figure without baselines."""

# ruff: noqa: RUF001  # other scripts are meant
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF
from torchmetrics.functional.text import chrf_score, sacre_bleu_score

from revinst.data.example_table import load_examples
from revinst.data.language import find_languages
from revinst.evaluation.baselines import BASELINES, best_constant, build_baselines
from revinst.evaluation.head import HEAD_METRICS
from revinst.evaluation.sacrebleu_scores import choose_tokenizer, score_corpus
from revinst.evaluation.scores import TEXT_METRICS, metric_settings, score_predictions
from revinst.evaluation.summary import ExampleLabels, label_lengths, label_ranges, range_order, summarise_scores
from tests.cpu_time import seconds

READ_ALL = ("bleu", "chrf", "copy_rate", "degenerate")  # and a metric of words is null where a reference has none


def score_one(prediction: str, reference: str, response: str = "", lines: tuple[str, ...] = ()) -> dict[str, float]:
    return {name: values[0] for name, values in score_predictions([prediction], [reference], [response], lines).items()}


def test_unequal_lengths_are_refused():
    with pytest.raises(AssertionError, match="2 predictions, 1 references"):
        score_predictions(["a", "b"], ["a"])


def test_words_counted_by_hand():
    scores = score_one("What is a red comet?", "What's a comet, a COMET?", "A red comet is a comet. What?")
    # what is a red comet | what s a comet a comet: what, a, comet shared; 3/5 and 3/6
    assert scores["token_f1"] == pytest.approx(2 * 0.6 * 0.5 / 1.1)
    assert scores["length_ratio"] == pytest.approx(5 / 6)
    assert scores["copy_rate"] == pytest.approx(3 / 5)  # "a red comet"
    assert scores["exact_match"] == 0 and score_one("what, IS it", "What is it?")["exact_match"] == 1
    assert score_one("Что это?", "что это")["token_f1"] == 1, "words of any script count"


def test_missing_values_are_nan():
    assert np.isnan(score_one("a", "?!")["length_ratio"])
    assert np.isnan(score_predictions(["a"], ["a"])["copy_rate"]).all()
    assert set(score_predictions([], [])) == set(TEXT_METRICS)


@pytest.mark.parametrize(
    ("prediction", "degenerate"),
    [
        ("", 1),
        ("... !", 1),
        ("List the words. " * 3, 1),
        ("Why? Why? Why? Why? Why? Why?", 1),
        ("Is it very very very good?", 0),
        ("What is it? ### Input: a text", 1),
        ("What is the input?", 0),
        ("x " * 3000, 1),
    ],
)
def test_degenerate(prediction, degenerate):
    assert score_one(prediction, "What is it?", lines=("### Input:",))["degenerate"] == degenerate


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=1, max_size=4))
def test_bleu_and_chrf_are_sacrebleus(pairs):
    predictions, references = zip(*pairs, strict=True)
    scores = score_predictions(predictions, references, references)
    chrf = CHRF()
    for row, (prediction, reference) in enumerate(pairs):
        bleu = BLEU(effective_order=True, tokenize=choose_tokenizer(reference))
        assert scores["bleu"][row] == pytest.approx(bleu.sentence_score(prediction, [reference]).score / 100)
        assert scores["chrf"][row] == pytest.approx(chrf.sentence_score(prediction, [reference]).score / 100)
        for name in TEXT_METRICS:
            value = scores[name][row]
            assert name == "length_ratio" or 0 <= value <= 1 + 1e-9 or (np.isnan(value) and name not in READ_ALL)


def test_corpus_level_is_torchmetrics_too():
    examples = load_examples("quickstart")[0][:60]
    references = [example.instruction for example in examples]
    predictions = [" ".join(reference.split()[:-1]) for reference in references]
    corpus = score_corpus(predictions, references)
    assert corpus["bleu"] == pytest.approx(float(sacre_bleu_score(predictions, [[r] for r in references])), abs=1e-5)
    # torchmetrics sums n-grams of each sentence with spaces, sacrebleu without: close, not equal
    assert corpus["chrf"] == pytest.approx(float(chrf_score(predictions, [[r] for r in references], 6, 0)), abs=0.01)
    assert 0.7 < corpus["bleu"] < 0.95


def test_settings_name_the_packages():
    described = metric_settings(["### Input:"], ["What is it?"])
    assert "nrefs:1" in described["chrf"]["sacrebleu"] and "version:" in described["bleu"]["sacrebleu"]
    assert described["degenerate"]["prompt_lines"] == ["### Input:"]
    assert {"rouge", "eos", *TEXT_METRICS[7:]} <= set(described)


def test_15000_rows_in_under_10_s():
    examples = list(load_examples("quickstart")[0])
    examples = (examples * (3000 // len(examples) + 1))[:3000]
    references = [example.instruction for example in examples]
    responses = [example.response for example in examples]
    predictions = references[1:] + references[:1]
    score_predictions(predictions[:1], references[:1], responses[:1])  # what is loaded but once
    assert seconds(lambda: score_predictions(predictions, references, responses)) < 10 / 5


TRAIN = ["How do I cook rice?", "What is a comet?", "What is a sun?"]
TRAIN_RESPONSES = ["Boil it in water.", "Comets are balls of ice and dust.", "A star."]


def test_baselines_are_what_they_say():
    responses = ["Comets are balls of ice and dust that orbit the Sun.", "Six", "It was boiled in water"]
    baselines = build_baselines(responses, TRAIN_RESPONSES, TRAIN, ["What is a moon?"] * 20)
    assert {"base", *baselines} == set(BASELINES)
    assert baselines["lead_words"] == ["Comets are balls of ice and dust", "Six", "It was boiled in water"]
    assert baselines["what_is"][1] == "What is Six?"
    assert set(baselines["random_instruction"]) <= set(TRAIN)
    assert set(baselines["best_constant"]) == {"What is a comet?"}, "the first of the two best, by the alphabet"
    assert baselines["nearest_response"] == ["What is a comet?", baselines["best_constant"][0], "How do I cook rice?"]


@pytest.mark.parametrize(
    ("response", "lead", "question"),
    [
        ("彗星是围绕太阳运行的冰和尘埃的球体，它们非常古老。", "彗星是围绕太阳运行的", "彗星是围绕太阳运行的是什么？"),
        (
            "彗星は太陽の周りを回る氷と塵の塊です。",
            "彗星は太陽の周りを回る氷と",
            "彗星は太陽の周りを回る氷ととは何ですか？",
        ),
        (
            "혜성은 태양 주위를 도는 얼음과 먼지 덩어리입니다.",
            "혜성은 태양 주위를 도는",
            "혜성은 태양 주위를 도는(이)란 무엇인가요?",
        ),
        (
            "Кометы представляют собой шары изо льда и пыли, которые вращаются вокруг Солнца.",
            "Кометы представляют собой шары изо льда и",
            "Что такое Кометы представляют собой шары изо льда и?",
        ),
        ("Halley Kuyruklu Yıldızı güneşin etrafında döner ve bazen görülür.", None, "{} nedir?"),
        ("ისინი ძალიან ძველია და მზის გარშემო ბრუნავენ ყოველთვის", None, "{}"),
    ],
)
def test_floors_are_in_the_language_of_the_text(response, lead, question):
    lead = lead or " ".join(response.split()[:7])
    baselines = build_baselines([response] * 2, TRAIN_RESPONSES, TRAIN)
    assert baselines["lead_words"] == [lead] * 2 and baselines["what_is"] == [question.replace("{}", lead)] * 2


def test_a_text_whose_language_is_not_plain_is_asked_about_as_the_others():
    assert find_languages(["Paris", "Paris ist die Hauptstadt von Frankreich", "Лёд", "东京"]) == [
        "de",
        "de",
        "und",
        "zh",
    ]
    assert find_languages(["Paris"]) == ["en"]


def test_best_constant_is_chosen_on_validation_rows():
    assert best_constant(TRAIN, ["How do I cook an egg?"] * 20) == "How do I cook rice?"
    assert best_constant(TRAIN, ["How do I cook an egg?"]).startswith("What is"), "too few: on the training rows"


def build_summary(**changes: np.ndarray) -> dict:
    scores = {name: np.array([0.2, 0.4, 0.9]) for name in TEXT_METRICS} | changes
    baseline = {name: np.array([0.1, 0.4, 0.5]) for name in TEXT_METRICS}
    kinds = ExampleLabels(["qa", "qa", "poem"], ["a", "b", "c"], {"response_length": label_lengths(["a"] * 3)})
    return summarise_scores(scores, kinds, dict.fromkeys(BASELINES, baseline), {"base": "x"})


def test_summary_has_means_intervals_and_parts():
    result = build_summary(copy_rate=np.full(3, np.nan))
    assert result["n"] == result["num_groups"] == 3 and result["metrics"]["rougeL"]["mean"] == pytest.approx(0.5)
    low, high = result["metrics"]["rougeL"]["ci95"]
    assert 0.2 <= low < 0.5 < high <= 0.9
    assert result["by_category"]["qa"]["rougeL"] == pytest.approx(0.3) and result["by_category"]["qa"]["n"] == 2
    assert result["macro"]["rougeL"] == pytest.approx(0.6)
    assert result["gains"]["what_is"]["rougeL"]["difference"] == pytest.approx(0.5 / 3)
    assert set(result["detectable"]) == set(HEAD_METRICS)
    assert result["metrics"]["copy_rate"] == {"mean": None, "ci95": [None, None], "n": 0}
    assert result["metrics"]["rougeL"]["n"] == 3
    assert list(result["by_response_length"]) == ["0-30 words"]
    assert "NaN" not in json.dumps(result) and json.dumps(result, allow_nan=False)


def test_no_score_without_baselines():
    scores = {name: np.array([1.0]) for name in TEXT_METRICS}
    baselines = {name: scores for name in BASELINES if name != "what_is"}
    with pytest.raises(AssertionError, match="what_is"):
        summarise_scores(scores, ExampleLabels(["qa"], ["a"]), baselines, {})


def test_ranges():
    assert label_ranges([0, 29, 30, 500], (30, 100), " words") == [
        "0-30 words", "0-30 words", "30-100 words", "100 and up words",
    ]  # fmt: skip
    assert label_ranges([0.0, 0.5], (0.1, 0.5), "") == ["0-0.1", "0.5 and up"]
    assert sorted(["100 and up", "30-100", "0-30"], key=range_order) == ["0-30", "30-100", "100 and up"]
