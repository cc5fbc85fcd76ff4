"""Every language alike: what scores, filters and searches find on the rows that ship, by `scripts/languages.py`."""

import re
from collections import Counter

import numpy as np
import pytest

from revinst.data.example_table import load_examples
from revinst.data.language import UNKNOWN_LANGUAGE, count_scripts, find_language
from revinst.data.split import group_duplicates
from revinst.data.words import count_words
from scripts.languages import SIMILAR, by_language, find_planted, score_pairs

LANGUAGES = dict(by_language())
LATIN = ("en", "de", "es")


def test_sixty_pairs_in_each_of_twelve_languages_and_nine_scripts():
    examples, discarded = load_examples("multilingual")
    assert (
        len(examples) == 720 and not discarded and Counter(examples.texts("category")) == dict.fromkeys(LANGUAGES, 60)
    )
    scripts: Counter[str] = sum((count_scripts(text) for text in examples.texts("response")), Counter())
    assert len([script for script, letters in scripts.items() if letters > 500]) == 10, "Japanese has two"
    assert max(map(len, group_duplicates(examples))) == 1, "no two pairs are near-duplicates"
    assert examples.texts("id") == [f"{name}-{number:02}" for name in LANGUAGES for number in range(1, 61)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_rows_are_in_their_language_and_say_as_much_as_the_english_ones(language):
    rows, english = LANGUAGES[language], LANGUAGES["en"]
    found = Counter(find_language(f"{row.instruction} {row.response}") for row in rows)
    assert set(found) <= {language, UNKNOWN_LANGUAGE} and found[language] >= 55
    lengths = [np.mean([count_words(row.response) for row in each]) for each in (rows, english)]
    assert lengths[0] / lengths[1] == pytest.approx(1, abs=0.25)
    for row in rows:
        assert row.instruction != row.response and not re.search(r"\s{2,}|\?\?|^\s|\s$", row.instruction + row.response)


@pytest.mark.parametrize("language", LANGUAGES)
def test_scores(language):
    for metric, (same, near, unrelated) in score_pairs(LANGUAGES[language]).items():
        if metric in ("rouge1", "rouge2", "rougeL") and language not in LATIN:
            assert np.isnan([same, near, unrelated]).all(), metric
        elif metric == "exact_match":
            assert (same, near, unrelated) == (1, 0, 0)
        else:
            assert same == pytest.approx(1) and 0.4 < near < 1 and unrelated < near / 2, metric
    assert len(SIMILAR) == 10


@pytest.mark.parametrize("language", LANGUAGES)
def test_filters_and_searches(language):
    found, english = find_planted(LANGUAGES[language]), find_planted(LANGUAGES["en"])
    assert abs(found["kept"] - english["kept"]) <= 0.05 and english["kept"] == 1
    assert found["copies"] == found["memorised"] == found["near-duplicates"] == 1 and found["loops"] > 0.95
