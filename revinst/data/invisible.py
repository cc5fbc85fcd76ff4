"""Characters that nobody sees: zero-width ones, direction marks, fillers, byte order marks."""

import re
from functools import lru_cache
from unicodedata import normalize

# Unicode's Default_Ignorable_Code_Point, the marks of interlinear annotation, and the empty Braille pattern.
RANGES = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
INVISIBLE = re.compile(f"[{RANGES}]+")
# Nor does anybody see control characters, the object that a copied text has lost, and what is no character.
NOTHING = "\x00-\x08\x0e-\x1b\x7f-\x9f\ufdd0-\ufdef\ufffc\ufffe\uffff"
VISIBLE = re.compile(rf"[^\s{RANGES}{NOTHING}]")


def drop_invisible(text: str) -> str:
    return text if text.isascii() else INVISIBLE.sub("", text)


def is_blank(text: str) -> bool:
    """Whether nothing is to be seen in it."""
    return not VISIBLE.search(text)


@lru_cache(maxsize=4096)
def clean_name(name: str) -> str:
    """A column's name as it reads, a letter and its mark as one: `"\\ufeffmy\\u00a0column "` -> `"my column"`."""
    return normalize("NFC", " ".join(drop_invisible(name).split()))
