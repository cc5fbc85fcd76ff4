"""A language model as judge: a rating of one instruction for a text, or which of two is better.

Every answer is kept in `judge.jsonl` as it comes, under a hash of all that it depends on, so that none is paid twice
and a command that was killed goes on where it was.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import TypedDict

from revinst.errors import UserError
from revinst.evaluation.judge_client import LONG_TOKENS, MAX_TOKENS, JudgeClient, NoAnswer, Reply, Stopped
from revinst.evaluation.judge_settings import JudgeSettings
from revinst.inference.key import hash_json
from revinst.inference.predictions import KeyedFile
from revinst.progress import Stage

FILE = "judge.jsonl"
MAX_TEXT = 12_000  # characters of one text; what comes after is not judged
RATINGS = range(1, 6)
TIE, FIRST, SECOND = CHOICES = range(3)
FORMAT = 'Reply with one JSON object and nothing else: {"answer": N}, where N is '
RATING_FORMAT = f"{FORMAT}a whole number from 1 to 5."
CHOICE_FORMAT = f"{FORMAT}1 if instruction 1 is better, 2 if instruction 2 is better, and 0 if neither is."
# What stands before an answer: up to its last end of thoughts, whose beginning may be the prompt's.
THOUGHTS = re.compile(
    r"\A.*(?:</(?:\w+:)?think(?:ing)?(?::\w+)?>|\[/THINK\]|<\|channel\|>final<\|message\|>)", re.DOTALL
)
FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)
NUMBER = re.compile(r"\A[0-9]\Z")


@dataclass(frozen=True, slots=True)
class Judgement:
    """answer: None for what can't be read, twice. Requests and tokens are what it took, as the server counts these."""

    answer: int | None
    requests: int
    num_read: int
    num_written: int


class JudgementFile(KeyedFile[Judgement]):
    """Of what a judge answered, without a word of what it was asked."""

    def load(self, value: object) -> Judgement:
        if not isinstance(value, list) or len(value) != 4 or not all(type(each) is int for each in value[1:]):
            raise TypeError("no judgement")
        if value[0] is not None and type(value[0]) is not int:
            raise TypeError("no answer")
        return Judgement(*value)

    def dump(self, value: Judgement) -> object:
        return [value.answer, value.requests, value.num_read, value.num_written]


@dataclass(frozen=True, slots=True)
class Question:
    """A rubric with its texts filled in. format: the line that says what to reply; allowed: the numbers in it."""

    prompt: str
    format: str
    allowed: range

    @property
    def text(self) -> str:
        return f"{self.prompt.rstrip()}\n\n{self.format}"


class Use(TypedDict):
    """What a judge was and took, for scores.json. `cost` in the currency of the prices, None without any. `unreadable`:
    answers that were none, asked again. `refused`: that the server would not take. `cut`: questions with a text
    that was longer than `MAX_TEXT`.
    """

    model: str
    address: str
    rubric: str
    n: int
    unreadable: int
    refused: int
    cut: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None


class Judge:
    """Asks what is not in the file yet. kind: `rating` or `pair`, the package's rubrics."""

    def __init__(self, settings: JudgeSettings, folder: Path, kind: str):
        self.settings, self.kind = settings, kind
        self.rubric = read_rubric(settings.rubric, kind)
        self.client = JudgeClient(settings)
        self.file, self.lock = JudgementFile(folder / FILE), Lock()
        self.cut = self.refused = 0
        self.example = ""  # of an answer that can't be read
        self.used: dict[str, Judgement] = {}

    def rate(self, text: str, instruction: str) -> Question:
        return self.fill({"text": text, "instruction": instruction}, RATING_FORMAT, RATINGS)

    def choose(self, text: str, first: str, second: str) -> Question:
        return self.fill({"text": text, "first": first, "second": second}, CHOICE_FORMAT, CHOICES)

    def fill(self, texts: Mapping[str, str], reply: str, allowed: range) -> Question:
        self.cut += any(len(text) > MAX_TEXT for text in texts.values())
        slots = "|".join(texts)
        filled = re.sub(rf"\{{({slots})\}}", lambda slot: texts[slot[1]][:MAX_TEXT], self.rubric)
        return Question(filled, reply, allowed)

    def key(self, question: Question) -> str:
        return hash_json([self.settings.endpoint, self.settings.model, question.text, MAX_TOKENS], 32)

    def answer(self, questions: Sequence[Question]) -> list[int | None]:
        """To each; None where there is none. Equal questions are asked once.

        Raises UserError where the server can't be used; what it answered before is kept.
        """
        keys = [self.key(question) for question in questions]
        known = self.file.read()
        missing = {key: each for key, each in zip(keys, questions, strict=True) if key not in known}
        if missing:
            print(self.announce(len(missing), len(set(keys))), file=sys.stderr)
            known |= self.ask_all(missing)
        self.used |= {key: known[key] for key in keys if key in known}
        answers = [known[key].answer if key in known else None for key in keys]
        if questions and all(answer is None for answer in answers):
            example = f": {self.example[:99]!r}" if self.example else f", as {self.file.path} says"
            raise UserError(f"--judge {self.settings.endpoint}: none of {len(questions)} answers can be used{example}")
        return answers

    def announce(self, missing: int, total: int) -> str:
        known = f" ({total - missing} more are known)" if missing < total else ""
        return f"judge: {missing} questions go to {self.settings.endpoint}, model {self.settings.model}{known}"

    def ask_all(self, missing: Mapping[str, Question]) -> dict[str, Judgement]:
        """By key, without those that the server refused. One failure ends all; answers on their way are waited for."""
        found: dict[str, Judgement] = {}
        with Stage("judge", len(missing), "answers", details=lambda: self.say_cost(found)) as stage:

            def ask(key: str) -> None:
                try:
                    judgement = self.ask(missing[key])
                except NoAnswer as refusal:
                    with self.lock:
                        self.refused, self.example = self.refused + 1, str(refusal)
                except Stopped:
                    return
                except BaseException:  # here, since this thread would take the next question before another looks
                    self.client.stop.set()
                    raise
                else:
                    with self.lock:
                        self.file.append(key, judgement)
                        found[key] = judgement
                stage.advance()

            with ThreadPoolExecutor(self.settings.parallel) as pool, ending(self.client, pool):
                for future in as_completed([pool.submit(ask, key) for key in missing]):
                    future.result()
        return found

    def ask(self, question: Question) -> Judgement:
        """What can't be read is asked again once: with itself and a word about its form, or, where it was cut off, as
        before and with more room.
        """
        messages = [{"role": "user", "content": question.text}]
        reply = self.client.ask(messages)
        answer = parse_answer(reply.text, question.allowed)
        if answer is not None:
            return Judgement(answer, 1, reply.num_read, reply.num_written)
        if not reply.was_cut:
            messages += [{"role": "assistant", "content": reply.text[:2000] or "-"}]
            messages += [{"role": "user", "content": question.format}]
        try:
            again = self.client.ask(messages, LONG_TOKENS if reply.was_cut else MAX_TOKENS)
        except NoAnswer:  # the first answer is paid, and kept as the one that can't be read
            again = Reply("", 0, 0)
        answer = parse_answer(again.text, question.allowed)
        if answer is None:
            self.example = again.text or reply.text or "an empty text"
        read, written = reply.num_read + again.num_read, reply.num_written + again.num_written
        return Judgement(answer, 2, read, written)

    def say_cost(self, found: Mapping[str, Judgement]) -> str:
        """`12,300 tokens, cost 0.0123`; nothing of a server that counts none."""
        with self.lock:
            read, written = count_tokens(list(found.values()))
        cost = f", cost {self.settings.cost(read, written):.4f}" if any(self.settings.prices) else ""
        return f"{read + written:,} tokens{cost}" if read + written else ""

    def describe(self) -> Use:
        """Of all that was answered, now or in an earlier call."""
        used = list(self.used.values())
        read, written = count_tokens(used)
        return {
            "model": self.settings.model,
            "address": self.settings.endpoint,
            "rubric": hash_json(self.rubric),
            "n": len(used),
            "unreadable": sum(each.answer is None for each in used),
            "refused": self.refused,
            "cut": self.cut,
            "requests": sum(each.requests for each in used),
            "prompt_tokens": read,
            "completion_tokens": written,
            "cost": self.settings.cost(read, written) if any(self.settings.prices) else None,
        }


def count_tokens(judgements: Sequence[Judgement]) -> tuple[int, int]:
    return sum(each.num_read for each in judgements), sum(each.num_written for each in judgements)


@contextmanager
def ending(client: JudgeClient, pool: ThreadPoolExecutor) -> Iterator[None]:
    """After an error, Ctrl-C included, nothing more is sent; the first error is the one that is told."""
    try:
        yield
    except BaseException:
        client.stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def parse_answer(text: str, allowed: range) -> int | None:
    """`{"answer": 4}`, or the number alone; None for anything else, so that no guess is taken for an answer.

    >>> [parse_answer(text, range(1, 6)) for text in ('{"answer": 4}', "4", "4 or 5", "6", '{"answer": "4"}')]
    [4, 4, None, None, None]
    """
    text = THOUGHTS.sub("", text).strip()
    fenced = FENCE.match(text)
    text = fenced[1] if fenced else text
    if NUMBER.match(text):
        answer: object = int(text)
    else:
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return None
        answer = content["answer"] if isinstance(content, dict) and content.keys() == {"answer"} else None
    return answer if type(answer) is int and answer in allowed else None


def read_rubric(path: Path | None, kind: str) -> str:
    """Raises UserError for one without a place for what is judged."""
    if path is None:
        return files("revinst.evaluation").joinpath("rubrics", f"{kind}.txt").read_text(encoding="utf-8")
    try:
        rubric = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--judge_rubric {path}: can't be read as UTF-8 text ({error})") from None
    needed = ("{text}", "{instruction}") if kind == "rating" else ("{text}", "{first}", "{second}")
    if missing := [slot for slot in needed if slot not in rubric]:
        raise UserError(f"--judge_rubric {path}: {missing[0]} is not in it; a rubric has {', '.join(needed)}")
    return rubric
