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
