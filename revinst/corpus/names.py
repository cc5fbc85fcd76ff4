"""Names of people in a text: as a conversation has them, in the cases that languages give them, and in short."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

MIN_NAME = 3  # letters; a shorter part of a name counts with a capital alone, in the header and in the text
LISTS = files("revinst.corpus").joinpath("name_lists")
BEFORE = {"he": "ולבמשהכ", "ar": "ولبفك"}  # letters that a word takes in front
AFTER_HANGUL = re.compile(r"[가-힣]{0,3}")  # particles and titles
SPACELESS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]{2,}")
PART = re.compile(r"(?<![\w@])[^\W\d_]+(?![\w@])")  # no part of an id
LAST_WORD, FIRST_WORD = re.compile(r"([^\W\d_]{1,30})(\.?)\s\Z"), re.compile(r"\s([^\W\d_]+)")
# Of a month: 3 May, 3rd of May, 3. Mai; May 3, May 2026; in May.
DAY_BEFORE, DAY_AFTER = re.compile(r"\d(?:st|nd|rd|th|\.)?(?: of)?\s\Z"), re.compile(r",?\s?\d")
IN_MONTH = re.compile(
    r"\b(?:in|since|until|till|during|through|early|late|mid|next|last|every|im|seit|bis|anfang|mitte|ende)[\s-]\Z",
    re.I,
)
THE = re.compile(r"\bthe\s\Z", re.IGNORECASE)  # no other article: "a" is "to" elsewhere, and "der" stands before names
ASKED = re.compile(r"\s(?:I|you|we|he|she|it|they|the|this|that|these|there|your|my|our)\b")  # Will you, May I, Mark my
ADDRESS = re.compile(r"[^\s@]{0,64}@\S*+")
CAPITAL = r"[^\W\d_a-z][^\W\d_A-Z]{1,30}"
# A first line such as "Dear Ann," or "Hi Ann Lee", in any language.
GREETED = re.compile(rf"\A\W{{0,3}}[^\W\d_]{{2,12}} ({CAPITAL}(?: {CAPITAL})?)(?=\W{{0,2}}(?:\n|\Z))")


def read_list(name: str) -> list[str]:
    lines = LISTS.joinpath(name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


@cache
def load_words(name: str) -> frozenset[str]:
    return frozenset(" ".join(read_list(name)).split())


@cache
def load_short_names() -> dict[str, frozenset[str]]:
    """Name -> what may be said in its place: alexander -> alex, sascha."""
    found: dict[str, set[str]] = {}
    for line in read_list("short.txt"):
        full, short = (names.split() for names in line.split(":"))
        for name in full:
            found.setdefault(name, set()).update(short)
    return {name: frozenset(short) for name, short in found.items()}


def load_cases(languages: Sequence[str]) -> list[tuple[str, str]]:
    """(ending, what it stands for) of names in these languages: (owi, "") of Polish, Nowakowi."""
    found = []
    for line in read_list("cases.txt"):
        names, base, forms = (part.strip() for part in line.split("|"))
        if not set(languages).isdisjoint(names.split()):
            found += [(form, base.strip("-")) for form in forms.split()]
    return found


class Names:
    """Which words of a text name somebody.

    names: of people, as conversations have them. mine: names that stay. languages: of the texts, for their cases.
    """

    def __init__(self, names: Iterable[str] = (), mine: Iterable[str] = (), languages: Sequence[str] = ()):
        own = {part for name in mine for part in split_name(name)}
        people = [list(split_name(name)) for each in names for name in re.split("[,;]", each)]
        self.parts = frozenset(part for parts in people for part in parts) - own
        self.given = frozenset(parts[0] for parts in people if parts) - own
        short = load_short_names()
        self.short = frozenset(other for part in self.parts for other in short.get(part, ())) - self.parts - own
        self.nouns_have_capitals, self.of_is_or = "de" in languages, "nl" in languages
        self.beginnings = frozenset(name[:2] for name in self.parts | self.short)
        self.cases = load_cases(languages)
        self.before = "".join(BEFORE.get(language, "") for language in languages)
        together = [name for name in self.parts if SPACELESS.fullmatch(name)]
        longest_first = sorted(together, key=len, reverse=True)
        self.together = re.compile("|".join(map(re.escape, longest_first))) if together else None
        self.hangul = sorted((name for name in self.parts if re.fullmatch("[가-힣]{2,}", name)), key=len, reverse=True)

    def may_be_named(self, word: str) -> bool:
        """False for nearly all words, at no cost."""
        lower = word.lower()
        return lower[:2] in self.beginnings or (bool(self.before) and lower[0] in self.before)

    def is_named(self, word: str, before: str = "", after: str = "") -> bool:
        """Whether a word is somebody's name; before, after: the text around it."""
        lower, has_capital = word.lower(), word[0].isupper()
        if self.before and lower[0] in self.before and lower[1:] in self.parts:
            return True
        if not has_capital:
            if lower in self.parts:
                return lower not in load_words("words.txt") and not is_short(lower)
            return any(lower.startswith(name) and AFTER_HANGUL.fullmatch(lower[len(name) :]) for name in self.hangul)
        name = lower if lower in self.parts | self.short else lower.removesuffix("s")
        if name not in self.parts | self.short:
            return self.is_case(lower)
        return name not in load_words("words.txt") or self.is_meant(name, name == lower, before, after)

    def is_meant(self, name: str, is_whole: bool, before: str, after: str) -> bool:
        """Whether a word with a capital that is also a name is one here: Mr Park, but Hyde Park; Will, but Will you;
        May, but in May; Rose, but the Rose, and Art, but Art of Cooking.

        is_whole: it has no ending.
        """
        last, first = LAST_WORD.search(before), FIRST_WORD.match(after)
        known = self.parts | self.short
        if is_month(name, before, after) or THE.search(before) or (after.startswith(" of ") and not self.of_is_or):
            return False
        if last and last[1].lower() in (load_words("titles.txt") if last[2] else known | load_words("titles.txt")):
            return True
        if name in self.given or name in self.short:
            return is_whole and not (begins_sentence(before) and ASKED.match(after))
        if not is_whole or self.nouns_have_capitals or begins_sentence(before):
            return False
        after_place = last and last[1][0].isupper() and not begins_sentence(before[: last.start()])
        return not after_place and not (first and first[1][0].isupper() and first[1].lower() not in known)

    def is_case(self, lower: str) -> bool:
        for form, base in self.cases:
            stem = lower.removesuffix(form)
            if len(stem) < len(lower) and len(stem + base) >= MIN_NAME and stem + base in self.parts | self.short:
                return True
        return False


def split_name(name: str) -> Iterable[str]:
    """Parts in lower case of what a conversation calls somebody, without titles and programs; of 김철수 also 철수."""
    for part in PART.findall(ADDRESS.sub(" ", name.lstrip(" @"))):
        if is_name(part):
            yield part.lower()
            if re.fullmatch("[가-힣]{3}", part):
                yield part[1:]


def is_month(name: str, before: str, after: str) -> bool:
    """Whether a name that is also a month is one here."""
    is_beside = DAY_BEFORE.search(before) or DAY_AFTER.match(after) or IN_MONTH.search(before)
    return bool(is_beside) and name in load_words("months.txt")


def begins_sentence(before: str) -> bool:
    """Whether a sentence begins after this, where every word has a capital."""
    return not before.strip() or before.rstrip()[-1] in ".!?:\u2026" or before.endswith("\n")


def is_name(part: str) -> bool:
    return (
        len(part) > 1 and part.lower() not in load_words("no_names.txt") and (part[0].isupper() or not is_short(part))
    )


def is_short(part: str) -> bool:
    return len(part) < MIN_NAME and part.isascii()
