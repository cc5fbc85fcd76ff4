"""ROUGE for any script: the same F1 as Google's over the words of `data/words.py`.

Where both can read a text they differ in two things only: letters such as é are letters here, and words are stemmed in
the reference's own language if it is plain which that is and there is a stemmer for it, else not at all.
"""

import re
from functools import cache, lru_cache
from itertools import pairwise
from typing import Protocol

from revinst.data.language import find_language
from revinst.data.words import split_words
from revinst.evaluation.rouge import score_ngrams, score_rouge_l, split_stems, stem_word

UNICODE_METRICS = ("rouge1_unicode", "rouge2_unicode", "rougeL_unicode")
UNICODE_SETTINGS = {"stemmer": "porter for English, snowball for its other languages", "tokens": "revinst.data.words"}
# ISO 639-1 -> nltk's name. English has the stemmer that Google's ROUGE has, so that the two agree on it.
SNOWBALL = {
    "ar": "arabic", "da": "danish", "nl": "dutch", "fi": "finnish", "fr": "french", "de": "german", "hu": "hungarian",
    "it": "italian", "no": "norwegian", "nb": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian",
    "es": "spanish", "sv": "swedish",
}  # fmt: skip


def is_readable(text: str) -> bool:
    """Whether Google's ROUGE sees at least half of the letters and digits of a text that has some."""
    seen = sum(map(len, re.findall(r"[a-z0-9]+", text.lower())))
    letters = seen if text.isascii() else sum(map(str.isalnum, text))
    return 0 < letters <= 2 * seen


def split_by_script(text: str) -> list[str]:
    """The words to compare texts by whose language nobody asked: Google's stems, if it can read the text."""
    return split_stems(text) if is_readable(text) else split_words(text)


def score_unicode_rouge(prediction: str, reference: str) -> tuple[float, float, float]:
    """F1 of ROUGE-1, -2 and -L, each in 0-1; 0 where either text has no word."""
    return score_split(split_words(prediction), split_words(reference), find_language(reference))


def score_split(prediction: list[str], reference: list[str], language: str) -> tuple[float, float, float]:
    """The same of texts that `split_words` has split. language: the reference's."""
    ours, theirs = stem_words(prediction, language), stem_words(reference, language)
    return (
        score_ngrams(ours, theirs),
        score_ngrams(list(pairwise(ours)), list(pairwise(theirs))),
        score_rouge_l(ours, theirs),
    )


def stem_words(words: list[str], language: str) -> list[str]:
    """What no stemmer is for stays as it is."""
    if language == "en":
        return [stem for stem in map(stem_word, words) if stem]
    return [stem_in(word, language) for word in words] if language in SNOWBALL else words


@lru_cache(maxsize=1 << 18)
def stem_in(word: str, language: str) -> str:
    return load_stemmer(SNOWBALL[language]).stem(word) or word


class Stemmer(Protocol):
    def stem(self, word: str) -> str: ...


@cache
def load_stemmer(name: str) -> Stemmer:
    from nltk.stem.snowball import SnowballStemmer  # rules only, as Porter's

    return SnowballStemmer(name)
