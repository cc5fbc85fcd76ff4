"""Self-curation: the base rates each pair from 1 to 5, as Humpback does (https://arxiv.org/abs/2308.06259)."""

import re
from collections.abc import Sequence
from dataclasses import replace

from revinst.corpus.candidates import Writer
from revinst.corpus.texts import Record
from revinst.data.prompt import render_chat
from revinst.errors import UserError
from revinst.inference.engine.engine import generate_batches

QUESTION = """Below are an instruction and a text that somebody wrote. Judge whether the text answers the instruction.
5: a complete answer to exactly this instruction. 4: a good answer. 3: it answers in part. 2: it is about the same \
subject only. 1: it does not fit.

Instruction: {instruction}

Text: {text}

Reply with one line in the form "Score: N" and nothing else."""
PRIMER = "Score:"  # written for the base, which then gives a number or shows that it can't
# Nothing may follow but a full stop: "4 or 5" and "10" are no ratings.
RATING = re.compile(r"\Ascore ?: ?([1-5])(?: ?/ ?5)? ?\.?\Z", re.IGNORECASE)
MAX_TEXT = 4000  # characters
MAX_ANSWER = 12  # tokens
MARK = "THE QUESTION"


def parse_rating(answer: str) -> int | None:
    """`"Score: 4"` -> 4; None for anything but one rating in the form that was asked for."""
    found = RATING.match(" ".join(answer.split()))
    return int(found[1]) if found else None


def rate_records(writer: Writer, records: Sequence[Record]) -> list[int | None]:
    """The base's rating of each record; None where its answer can't be read."""
    prompts = [encode_question(writer, record) for record in records]
    settings = replace(writer.settings, temperature=0.0, max_new_tokens=MAX_ANSWER)
    ratings: list[int | None] = [None] * len(records)
    with writer.network.without_adapter():
        for number, generated in generate_batches(writer.network, writer.tokenizer, prompts, settings):
            ratings[number] = parse_rating(PRIMER + writer.tokenizer.decode(generated.token_ids))
    return ratings


def encode_question(writer: Writer, record: Record) -> list[int]:
    """Ids of the question as a chat where the base has a chat template; nothing in a text is a special token."""
    text = record["text"][:MAX_TEXT]
    parts = {"instruction": record["instruction"], "text": text}
    question = re.sub(r"\{(instruction|text)\}", lambda slot: parts[slot[1]], QUESTION)
    hf = writer.tokenizer.hf
    head, tail = "", "\n\n"
    if getattr(hf, "chat_template", None):
        head, tail = render_chat(hf, MARK).split(MARK)
    fixed = writer.tokenizer.encode_fixed(head, parse_special=True) if head else []
    content = writer.tokenizer.encode_continuations([question])[0]
    end = writer.tokenizer.encode_continuations([tail + PRIMER], parse_special=True)[0]
    space = writer.trained.seq_len - MAX_ANSWER - len(fixed) - len(end)
    return [*fixed, *content[:space], *end]


def check_unparsable(ratings: Sequence[int | None], limit: float) -> float:
    """The share of ratings that could not be read. Raises UserError above the limit: the base can't judge."""
    share = sum(rating is None for rating in ratings) / max(len(ratings), 1)
    if share > limit:
        raise UserError(
            f"--curate: {share:.0%} of {len(ratings)} ratings can't be read, more than --max_unparsable {limit:g}; "
            "this base does not follow the rating prompt, leave --curate out"
        )
    return share
