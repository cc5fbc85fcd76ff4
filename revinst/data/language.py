"""Which script and which language a text is in; offline, and nothing is said where it is not plain."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from revinst.data.words import fold

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

UNKNOWN_LANGUAGE = "und"
SURE = 0.9  # probability of a language; English lists of names are Latin with 0.4
LIKELY = 0.05
MAX_CHARACTERS = 2000  # of a text are enough
# Scripts that one language is written in, mostly; kana and ideographs see `find_language`.
LANGUAGE_OF = {
    "greek": "el", "hebrew": "he", "thai": "th", "lao": "lo", "khmer": "km", "myanmar": "my", "hangul": "ko",
    "georgian": "ka", "armenian": "hy", "tamil": "ta", "telugu": "te", "kannada": "kn", "malayalam": "ml",
    "gujarati": "gu", "gurmukhi": "pa", "sinhala": "si",
}  # fmt: skip
# What the identifier tells apart and a list of phrases does not: spoken varieties, written much like the language.
VARIETIES = {"ary": "ar", "arz": "ar", "wuu": "zh", "yue": "zh"}
KANA = 0.1  # this share of kana makes ideographs Japanese


@lru_cache(maxsize=1 << 16)
def script_of_letter(letter: str) -> str:
    """`"é"` -> `"latin"`, `"中"` and `"々"` -> `"han"`, both kana -> `"kana"`; "" for what is no letter."""
    if not letter.isalpha():
        return ""
    name = unicodedata.name(letter, "").split(" ", 1)[0].lower()
    return {"cjk": "han", "ideographic": "han", "hiragana": "kana", "katakana": "kana"}.get(name, name)


def count_scripts(text: str) -> Counter[str]:
    """Letters of each script."""
    if text.isascii():
        return Counter(latin=letters) if (letters := sum(map(str.isalpha, text))) else Counter()
    scripts = Counter(map(script_of_letter, fold(text)))
    scripts.pop("", None)
    return scripts


def find_script(text: str) -> str:
    """The script of most of its letters, "" without any. Ideographs with kana are kana."""
    scripts = count_scripts(text[:MAX_CHARACTERS])
    if not scripts:
        return ""
    most = max(scripts, key=lambda script: scripts[script])
    return "kana" if most == "han" and scripts["kana"] >= KANA * scripts.total() else most


def share_of_script(text: str, script: str) -> float:
    """Of its letters; ideographs and kana are one script here. 1 without letters."""
    scripts = count_scripts(text[:MAX_CHARACTERS])
    wanted = ("han", "kana") if script in ("han", "kana") else (script,)
    return sum(scripts[name] for name in wanted) / scripts.total() if scripts else 1.0


def find_language(text: str) -> str:
    """ISO 639-1 code, or UNKNOWN_LANGUAGE. By its script where that is enough: a short text is plain then, too."""
    script = find_script(text)
    if script in ("kana", "han"):
        return "ja" if script == "kana" else "zh"
    return LANGUAGE_OF.get(script) or identify(text[:MAX_CHARACTERS])


def find_likely(text: str) -> list[str]:
    """Languages that a short text may be in, each with a probability of LIKELY or more."""
    likely = load_identifier().rank(text[:MAX_CHARACTERS])
    return list(dict.fromkeys(VARIETIES.get(name, name) for name, probability in likely if probability >= LIKELY))


def find_languages(texts: Sequence[str]) -> list[str]:
    """Of texts that belong together: one whose language is not plain is in that of most others in its script.

    Where that is not plain either, Latin is English.
    """
    languages, scripts = list(map(find_language, texts)), list(map(find_script, texts))
    plain: dict[str, Counter[str]] = defaultdict(Counter)
    for language, script in zip(languages, scripts, strict=True):
        plain[script][language] += language != UNKNOWN_LANGUAGE
    usual = {"latin": "en"} | {script: found.most_common(1)[0][0] for script, found in plain.items() if found.total()}
    return [
        usual.get(script, UNKNOWN_LANGUAGE) if language == UNKNOWN_LANGUAGE else language
        for language, script in zip(languages, scripts, strict=True)
    ]


def identify(text: str) -> str:
    language, probability = load_identifier().classify(text)
    language = VARIETIES.get(language, language)
    if probability < SURE and language in VARIETIES.values():
        likely = load_identifier().rank(text)
        probability = sum(each for name, each in likely if VARIETIES.get(name, name) == language)
    return language if probability >= SURE else UNKNOWN_LANGUAGE


@cache
def load_identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
