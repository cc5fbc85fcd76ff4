"""How a person writes, in a few numbers, and how far generated texts are from it. No language is assumed."""

# ruff: noqa: RUF001  # other scripts are meant
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from revinst.data.words import count_words, normalise, split_words

NUM_FUNCTION_WORDS = 50  # the most frequent words of a person's texts are mostly function words
MAX_LINE_WORDS = 4  # of a greeting or a sign-off
ENDS = ".?:;。？：；।؟"  # of a sentence, which is neither


def describe_style(texts: Sequence[str]) -> dict[str, Any]:
    """Words a text (mean, sd), words a sentence, and the share of texts with a greeting and with a sign-off."""
    words = np.array([count_words(normalise(text)) for text in texts], dtype=np.float64)
    sentences = [len(re.findall(r"[.!?]+(?=\s|$)|[。！？।؟]+|\n\n", text.strip())) or 1 for text in texts]
    return {
        "words": float(words.mean()),
        "words_sd": float(words.std()),
        "words_a_sentence": float(words.sum() / sum(sentences)),
        "greeting": float(np.mean([bool(find_greeting(text)) for text in texts])),
        "sign_off": float(np.mean([bool(find_sign_off(text)) for text in texts])),
    }


def find_greeting(text: str) -> str:
    """The first word of a short first line above other lines: `"Hi Ann,\\n\\nno."` -> `"hi"`; else ""."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or count_words(lines[0]) > MAX_LINE_WORDS or lines[0].rstrip()[-1] in ENDS:
        return ""
    return (split_words(lines[0]) or [""])[0]


def find_sign_off(text: str) -> str:
    """The last one or two short lines that end no sentence: `"... no.\\n\\nCheers,\\nMara"` -> `"cheers mara"`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found: list[str] = []
    for line in reversed(lines[1:][-2:]):
        if count_words(line) > MAX_LINE_WORDS or line[-1] in ENDS:
            break
        found.insert(0, line)
    return normalise(" ".join(found))


def compare_styles(texts: Sequence[str], own: Sequence[str]) -> dict[str, float]:
    """Distances in 0-1 between generated texts and a person's own, 0 for the same distribution.

    function_words: over the own texts' most frequent words. greetings, sign_offs: over which ones are used, none
    included. Each is half the summed absolute difference of relative frequencies.
    """
    counts = Counter(word for text in own for word in split_words(text))
    known = {word for word, _ in counts.most_common(NUM_FUNCTION_WORDS)}

    def words_of(some: Sequence[str]) -> list[str]:
        return [word for text in some for word in split_words(text) if word in known]

    return {
        "function_words": distance(words_of(texts), words_of(own)),
        "greetings": distance([find_greeting(text) for text in texts], [find_greeting(text) for text in own]),
        "sign_offs": distance([find_sign_off(text) for text in texts], [find_sign_off(text) for text in own]),
    }


def distance(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """`distance(["a", "b"], ["a", "a"])` -> 0.5; 1 where one of them is empty."""
    if not ours or not theirs:
        return float(bool(ours) != bool(theirs))
    a, b = Counter(ours), Counter(theirs)
    return sum(abs(a[word] / len(ours) - b[word] / len(theirs)) for word in a.keys() | b.keys()) / 2
