"""One tokenizer for every script: words of ASCII are Google's, marks stay with letters, spaces are not needed."""

# ruff: noqa: RUF001  # other scripts are meant
import re
import unicodedata

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.tokenize import tokenize

from revinst.data.words import count_words, find_first_words, normalise, split_words

WORDS = [
    ("What's  THIS?", "what s this"),
    ("a_b\n\tc 3.14", "a b c 3 14"),
    ("É 中!", "é 中"),
    ("\ufeffso\u00adme\u200bthing\u00a0\u202eelse", "something else"),
    ("L'été, l’été: café e\u0301té Straße STRASSE", "l été l été café été strasse strasse"),
    ("Ａ１ ﬁn №5 don’t é3.14", "a1 fin no5 don t é3 14"),
    ("п'ять п’ять пʼять привет_мир", "п'ять п'ять п'ять привет мир"),
    ("Καλημέρα, ΚΌΣΜΕ κόσμε", "καλημέρα κόσμε κόσμε"),
    ('צה"ל צה״ל', 'צה"ל צה"ל'),
    ("العَرَبِيَّة می\u200cخواهم", "العَرَبِيَّة میخواهم"),
    ("नमस्ते, क्षत्रिय।", "नमस्ते क्षत्रिय"),
    ("你好 world, 東京2020年", "你 好 world 東 京 2020 年"),
    ("テストｶｰﾄﾞabc カ_abc", "テ ス ト カ ー ド abc カ abc"),
    ("สวัสดี ชาวโลก", "ส วั ส ดี ช า ว โ ล ก"),
    ("ភាសាខ្មែរ ລາວ မြန်မာ", "ភា សា ខ្ មែ រ ລ າ ວ မြ န် မာ"),
    ("한국어 텍스트", "한국어 텍스트"),
    ("\u0301 ... 😀", ""),
]


@pytest.mark.parametrize(("text", "words"), WORDS)
def test_words(text, words):
    assert normalise(text) == unicodedata.normalize("NFKC", words)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_words_of_ascii_are_googles(text):
    assert split_words(text) == re.findall("[a-z0-9]+", text.lower()) == tokenize(text, None)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=30))
def test_words_have_no_spaces_and_stay_as_they_are(text):
    words = split_words(text)
    assert split_words(" ".join(words)) == words
    assert not any(character.isspace() for word in words for character in word)
    assert split_words(unicodedata.normalize("NFD", text)) == split_words(unicodedata.normalize("NFC", text))


# Letters of scripts with spaces, marks, and what UAX 29 has rules for within words and numbers.
joined = st.text(st.sampled_from("абשאबक्ाγم٣٤٫٬·״׳ "), max_size=20)


@settings(max_examples=500, deadline=None)
@given(joined)
def test_other_words_are_those_of_unicodes_boundaries(text):
    pieces = regex.split(r"(?w)\b", text.replace("׳", "'").replace("״", '"'))
    assert split_words(text) == [piece for piece in pieces if regex.match(r"[\p{L}\p{N}]", piece)]


# The same sentence; translators add or leave out a word, so lengths are near, not equal.
SENTENCES = [
    "Comets are balls of ice and dust that move around the sun.",
    "Kometen sind Kugeln aus Eis und Staub, die um die Sonne kreisen.",
    "Кометы это шары изо льда и пыли, которые движутся вокруг Солнца.",
    "المذنبات كرات من الجليد والغبار تدور حول الشمس.",
    "כוכבי שביט הם כדורים של קרח ואבק שנעים סביב השמש.",
    "彗星是围绕太阳运行的由冰和尘埃组成的球。",
    "彗星は太陽の周りを回っている氷と塵でできた球です。",
    "혜성은 태양 주위를 도는 얼음과 먼지로 된 공입니다.",
    "ดาวหางคือก้อนน้ำแข็งและฝุ่นที่โคจรรอบดวงอาทิตย์",
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_lengths_mean_the_same_in_every_script(sentence):
    assert count_words(sentence) == pytest.approx(12, abs=3)
    beginning = find_first_words(sentence, 7)
    assert sentence.startswith(beginning) and 5.5 < count_words(beginning) <= 7 + 1e-6
    assert find_first_words(sentence, 100) == sentence


def test_english_lengths_are_words_between_spaces():
    for text in ("What is - a  comet?", "It’s – nice", "", "..."):
        assert count_words(text) == len(text.split()) and find_first_words(text, 2) == " ".join(text.split()[:2])
