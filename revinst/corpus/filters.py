"""Filters of pairs of an instruction and its text, each with a name, a threshold and the reason to drop it.

A pair is a record with text, instruction and the scores of `candidates.py` (`gain`, `ifd`, `rifd`, None where the text
does not fit) and, after self-curation, `rating`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from revinst.corpus.phrases import DANGLING, META, find_phrase
from revinst.corpus.texts import Record
from revinst.data.language import UNKNOWN_LANGUAGE, find_language, find_script, share_of_script
from revinst.data.words import count_words, split_words
from revinst.errors import UserError
from revinst.evaluation.scores import copy_rate, is_degenerate

MIN_PLAIN_WORDS = 6  # of a text and an instruction whose languages are compared
SAME_SCRIPT = 0.2  # this share of an instruction's letters is enough: names and terms are often in another one


@dataclass(frozen=True, slots=True)
class Thresholds:
    """None switches a filter off. `min_words` and `min_ifd`, which drop short texts, are: see docs/purpose.md.

    min_words, max_words: of a text. min_instruction_words, max_instruction_words: of an instruction. As `count_words`
        has them, long as English ones.
    meta_instruction, dangling_reference: phrases of `phrases.py`, which has lists for some languages.
    copy_rate: the longest run of words shared with the text, as a share of the instruction; above it is a copy.
    language: the instruction must be in the text's language and script.
    min_gain: nats a token that the instruction adds to log p(text) under the base.
    min_ifd, max_ifd: perplexity of the text with its instruction / without (Cherry LLM,
        https://arxiv.org/abs/2308.12032); above 1 the instruction misleads. max_rifd: the same of the instruction
        with its text / without (https://arxiv.org/abs/2402.10110).
    min_rating: of self-curation, 1-5. judge: of a judge, 1-5, at least.
    duplicate: similarity of character 5-grams, of texts, of instructions, and of instructions in one document.
    """

    min_words: float | None = None
    max_words: float | None = 1500
    min_instruction_words: float | None = 3
    max_instruction_words: float | None = 100
    prompt_echo: bool | None = True
    meta_instruction: bool | None = True
    copy_rate: float | None = 0.8
    looping: bool | None = True
    dangling_reference: bool | None = True
    language: bool | None = True
    min_gain: float | None = 0.0
    min_ifd: float | None = None
    max_ifd: float | None = 1.0
    max_rifd: float | None = 1.0
    min_rating: float | None = 4
    duplicate_in_document: float | None = 0.7
    duplicate_text: float | None = 0.7
    duplicate_instruction: float | None = 0.7
    judge: float | None = 3


def parse_thresholds(settings: Iterable[str]) -> Thresholds:
    """`["min_words=10", "language=off"]`; raises UserError for what is no such setting."""
    known = {field.name: field.default for field in fields(Thresholds)}
    values: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in known:
            raise UserError(f"--filter {setting}: no such threshold; choose from {', '.join(known)}")
        try:
            values[name] = None if value == "off" else known[name] if value == "on" else float(value)
        except ValueError:
            raise UserError(f"--filter {setting}: give NAME=NUMBER, NAME=on or NAME=off") from None
        if value == "on" and values[name] is None:
            raise UserError(f"--filter {setting}: {name} is off unless a number is given; give {name}=NUMBER")
        if values[name] is not None and math.isnan(values[name]):
            raise UserError(f"--filter {setting}: not a number that anything can be compared with")
        if isinstance(known[name], bool) and value not in ("on", "off"):
            raise UserError(f"--filter {setting}: {name} is on or off")
    return Thresholds(**values)


@dataclass(frozen=True, slots=True)
class Filter:
    """why_not: the reason to drop a pair, "" to keep it."""

    name: str
    threshold: float | bool | None
    why_not: Callable[[Record], str]


def build_filters(limits: Thresholds, prompt_lines: Sequence[str] = (), rated: bool = False) -> list[Filter]:
    """Filters that look at one pair, in the order in which they are asked."""
    filters = [
        Filter("empty", None, lambda pair: "" if pair["instruction"].strip() else "no instruction was written"),
        at_least("too_short", limits.min_words, lambda pair: count_words(pair["text"]), "words in the text"),
        at_most("too_long", limits.max_words, lambda pair: count_words(pair["text"]), "words in the text"),
        at_least(
            "instruction_too_short",
            limits.min_instruction_words,
            lambda pair: count_words(pair["instruction"]),
            "words",
        ),
        at_most(
            "instruction_too_long",
            limits.max_instruction_words,
            lambda pair: count_words(pair["instruction"]),
            "words",
        ),
        Filter("prompt_echo", limits.prompt_echo, lambda pair: find_line(pair["instruction"], prompt_lines)),
        Filter("meta_instruction", limits.meta_instruction, lambda pair: quote_phrase(pair, META)),
        at_most(
            "copy",
            limits.copy_rate,
            lambda pair: copy_rate(split_words(pair["instruction"]), pair["text"]),
            "of it copied from the text",
        ),
        Filter("looping", limits.looping, lambda pair: "it repeats itself" if is_looping(pair["instruction"]) else ""),
        Filter("dangling_reference", limits.dangling_reference, lambda pair: quote_phrase(pair, DANGLING)),
        Filter("wrong_language", limits.language, why_wrong_language),
        at_least("low_gain", limits.min_gain, lambda pair: pair["gain"], "nats a token"),
        at_least("ifd_low", limits.min_ifd, lambda pair: pair["ifd"], "IFD"),
        at_most("ifd_high", limits.max_ifd, lambda pair: pair["ifd"], "IFD"),
        at_most("rifd_high", limits.max_rifd, lambda pair: pair["rifd"], "reverse IFD"),
    ]
    if rated:
        filters.append(at_least("low_rating", limits.min_rating, lambda pair: pair["rating"], "points"))
    return [each for each in filters if each.threshold is not None or each.name == "empty"]


def at_least(name: str, limit: float | None, value_of: Callable[[Record], float | None], unit: str) -> Filter:
    return Filter(name, limit, lambda pair: why_outside(value_of(pair), unit, low=limit))


def at_most(name: str, limit: float | None, value_of: Callable[[Record], float | None], unit: str) -> Filter:
    return Filter(name, limit, lambda pair: why_outside(value_of(pair), unit, high=limit))


def why_outside(value: float | None, unit: str, low: float | None = None, high: float | None = None) -> str:
    if value is None:
        return f"{unit}: unknown"
    if low is not None and value < low:
        return f"{value:.4g} {unit}, less than {low:g}"
    if high is not None and value > high:
        return f"{value:.4g} {unit}, more than {high:g}"
    return ""


def find_line(text: str, lines: Sequence[str]) -> str:
    return next((f"it holds the prompt's {line!r}" for line in lines if line in text), "")


def quote_phrase(pair: Record, kind: int) -> str:
    found = find_phrase(pair["instruction"], pair["text"], kind)
    return f"{found!r}" if found else ""


def is_looping(text: str) -> bool:
    return is_degenerate(split_words(text), text, ())


def why_wrong_language(pair: Record) -> str:
    """Another script, or another language where both are plain: short texts and lists of names are left alone."""
    text, instruction = pair["text"], pair["instruction"]
    script, found_script = find_script(text), find_script(instruction)
    if script and found_script and share_of_script(instruction, script) < SAME_SCRIPT:
        return f"the text is in {script} letters, the instruction in {found_script}"
    if min(count_words(text), count_words(instruction)) < MIN_PLAIN_WORDS:
        return ""
    expected, found = find_language(text), find_language(instruction)
    if UNKNOWN_LANGUAGE in (expected, found) or expected == found:
        return ""
    return f"the text is in {expected}, the instruction in {found}"
