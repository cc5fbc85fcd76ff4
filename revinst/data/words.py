"""The one tokenizer of words: all that counts, compares or finds words asks it.

An ASCII text has the words that Google's `rouge_score` finds in it, runs of a-z and 0-9. Of other texts Unicode's word
boundaries (UAX 29, https://unicode.org/reports/tr29/) tell words apart, and where a script sets no spaces between them
each character is one, with its marks, as in sacrebleu's `zh`:

    "Don't, 3.14!"       don t 3 14
    "L’été, Ａ１ Straße"   l été a1 strasse     compatibility forms and case are folded
    "п’ять नमस्ते"           п'ять नमस्ते          marks stay with their letters
    "你好 world"           你 好 world
"""

# ruff: noqa: RUF001, RUF002  # other scripts are meant
import re
from collections.abc import Iterator
from unicodedata import normalize

import regex

from revinst.data.invisible import drop_invisible

ASCII_WORD = re.compile(r"[a-z0-9]+")
# Scripts without spaces between words; the mark of long vowels is of no script.
SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
WORD = regex.compile(
    rf"[{SPACELESS}&&[\p{{L}}\p{{N}}]]\p{{M}}*+|\b[\p{{L}}\p{{N}}](?:\B[^{SPACELESS}])*+", regex.V1 | regex.WORD
)
# Signs within a word: `l'été` and `3.14` shall be split as in an ASCII text, `п'ять` and `क्या` not.
PART = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*+")
HAS_LATIN = regex.compile(r"\p{Latin}|\A\p{ASCII}*\Z")
# One apostrophe, one double quote: Hebrew's signs of abbreviation are typed as either. Underscores join in UAX 29.
SIGNS = str.maketrans({"’": "'", "ʼ": "'", "׳": "'", "״": '"', "_": " "})


def split_words(text: str) -> list[str]:
    """Words in order; what nobody sees is not there: with a zero-width space in it a word is one word."""
    if text.isascii():
        return ASCII_WORD.findall(text.lower())
    words: list[str] = []
    for word in WORD.findall(fold(text)):
        if not word.isalnum() and HAS_LATIN.search(word):
            words += PART.findall(word)
        else:
            words.append(word)
    return words


def fold(text: str) -> str:
    """Unicode's NFKC and full case folding, without what is invisible."""
    folded = normalize("NFKC", drop_invisible(text)).casefold()
    return normalize("NFKC", folded).translate(SIGNS)


def normalise(text: str) -> str:
    """Its words with single spaces: `"What's  THIS?"` -> `"what s this"`."""
    return " ".join(split_words(text))


# Characters that say what one English word says. Measured on translated help, manual pages and messages of programs
# (scripts/calibrate_lengths.py); Lao and Burmese are taken as Thai and Khmer.
CHARACTERS_A_WORD = {
    r"\p{Han}": 1.5, r"\p{Hiragana}\p{Katakana}ー": 3.5, r"\p{Thai}": 3.7, r"\p{Lao}": 3.7, r"\p{Khmer}": 3.0,
    r"\p{Myanmar}": 3.0,
}  # fmt: skip
# Words that do, where articles, prepositions and particles are written as parts of them; not Persian's and Urdu's.
WORDS_A_WORD = {r"\p{Hangul}": 0.68, r"\p{Hebrew}": 0.8, r"\p{Arabic}&&[^پچژگکیٹڈڑےہ]": 0.8}
CHARACTER = "|".join(rf"([{script}&&[\p{{L}}\p{{N}}]])\p{{M}}*+" for script in CHARACTERS_A_WORD)
PIECE = regex.compile(rf"{CHARACTER}|[^\s{SPACELESS}]++|\S", regex.V1)
WEIGHTS = [1 / characters for characters in CHARACTERS_A_WORD.values()]
DENSE_WORD = regex.compile("|".join(rf"\P{{L}}*+([{script}]++)\P{{L}}*+\Z" for script in WORDS_A_WORD), regex.V1)
DENSE_WEIGHTS = [1 / words for words in WORDS_A_WORD.values()]


def count_words(text: str) -> float:
    """How long a text is, in words as English has them: what stands between spaces, or what says as much."""
    return len(text.split()) if text.isascii() else sum(weight for _, weight in weigh(text))


def find_first_words(text: str, count: int) -> str:
    """The beginning of a text that says as much as so many English words, with single spaces."""
    end, left = 0, count + 1e-9
    for stop, weight in weigh(text):
        if weight > left:
            break
        end, left = stop, left - weight
    return " ".join(text[:end].split())


def weigh(text: str) -> Iterator[tuple[int, float]]:
    """(end, how many English words it is worth) of each character without spaces around it, and of each word."""
    pieces = list(PIECE.finditer(text))
    is_spaced = not any(piece.lastindex for piece in pieces)
    for piece in pieces:
        if piece.lastindex:
            weight = WEIGHTS[piece.lastindex - 1]
        elif not piece[0].isascii() and (dense := DENSE_WORD.match(piece[0])):
            weight = DENSE_WEIGHTS[dense.lastindex - 1]
        else:  # a sign alone is a word where spaces set it apart, not where it stood between characters
            weight = float(is_spaced or any(map(str.isalnum, piece[0])))
        yield piece.end(), weight
