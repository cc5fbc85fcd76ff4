"""Phrases, by language, of instructions that nobody can use.

phrase_lists/LANGUAGE.txt has two paragraphs, META and DANGLING: what is about the task itself or refuses it, and what
names a text that whoever reads the instruction does not have. A line is a regular expression, read without case; both
its ends are ends of words where words have spaces between them, and `~` stands for up to two words between two others.
"""

import re
from functools import cache
from importlib.resources import files

from revinst.data.language import UNKNOWN_LANGUAGE, find_language, find_likely, find_script

META, DANGLING = 0, 1
LISTS = files("revinst.corpus").joinpath("phrase_lists")
LANGUAGES = frozenset(file.name.removesuffix(".txt") for file in LISTS.iterdir() if file.name.endswith(".txt"))
WITHOUT_SPACES = {"zh", "ja"}  # a phrase of theirs is found anywhere


@cache
def load_phrases(language: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """(META, DANGLING) of one of LANGUAGES."""
    meta, dangling = LISTS.joinpath(f"{language}.txt").read_text(encoding="utf-8").strip().split("\n\n")
    return compile_phrases(meta, language), compile_phrases(dangling, language)


def compile_phrases(lines: str, language: str) -> re.Pattern[str]:
    if language in WITHOUT_SPACES:
        return re.compile("|".join(lines.replace("~", ".{0,8}").splitlines()), re.IGNORECASE)
    words = "|".join(lines.replace("~", r"(?:\s+\S+){0,2}").splitlines())
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)


def find_phrase(instruction: str, text: str, kind: int) -> str:
    """The first phrase of META or DANGLING in it; "" without one, and in languages that have no lists.

    A phrase of META that the text has too is its subject ("What is a language model?"), not the task.
    """
    lists = [load_phrases(name)[kind] for name in languages_of(instruction, text) if name in LANGUAGES]
    subject = text.casefold() if kind == META else ""
    phrases = (found[0] for each in lists for found in each.finditer(instruction))
    return next((phrase for phrase in phrases if phrase.casefold() not in subject), "")


def languages_of(instruction: str, text: str) -> list[str]:
    """An instruction's own language if it is plain, else that of its text, else all that it may be in."""
    for each in (instruction, text):
        if each.strip() and (language := find_language(each)) != UNKNOWN_LANGUAGE:
            return [language]
    return [*find_likely(instruction), *(["en"] if find_script(instruction) in ("latin", "") else [])]
