"""Self-curation: the base rates each pair from 1 to 5, as Humpback does (https://arxiv.org/abs/2308.06259)."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from revinst.corpus.candidates import Writer
from revinst.corpus.filters import Row
from revinst.errors import UserError
from revinst.generation.engine import generate_batches

QUESTION = """Below are an instruction and a text that somebody wrote. Judge whether the text answers the instruction.
5: a complete answer to exactly this instruction. 4: a good answer. 3: it answers in part. 2: it is about the same \
subject only. 1: it does not fit.

Instruction: {instruction}

Text: {text}

Reply with one line in the form "Score: N" and nothing else."""
# Nothing may follow but a full stop: "Score: 4 or 5" and "Score: 10" are no ratings.
RATING = re.compile(r"\s*(?:score|rating)\s*:\s*([1-5])(?:\s*/\s*5)?\s*\.?\s*", re.IGNORECASE)
MAX_TEXT = 4000  # characters


def parse_rating(answer: str) -> int | None:
    """`"Score: 4"` -> 4; None for anything but one rating in the form that was asked for."""
    found = RATING.fullmatch(answer.split("\n")[0]) if answer.strip() else None
    rest = answer.strip().split("\n")[1:]
    return int(found[1]) if found and not any(line.strip() for line in rest) else None


def rate_rows(writer: Writer, rows: Sequence[Row]) -> list[int | None]:
    """The base's rating of each row; None where its answer can't be read."""
    prompts = [encode_question(writer, row) for row in rows]
    settings = replace(writer.settings, temperature=0.0, max_new_tokens=12)
    ratings: list[int | None] = [None] * len(rows)
    with writer.model.disable_adapter():
        for number, generated in generate_batches(writer.model, writer.tokenizer, prompts, settings):
            ratings[number] = parse_rating(writer.tokenizer.decode(generated.token_ids).strip())
    return ratings


def encode_question(writer: Writer, row: Row) -> list[int]:
    question = QUESTION.replace("{instruction}", row["instruction"]).replace("{text}", row["text"][:MAX_TEXT])
    hf: Any = writer.tokenizer.hf
    if getattr(hf, "chat_template", None):
        text = hf.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        ids = writer.tokenizer.encode_fixed(text, parse_special=True)
    else:
        ids = writer.tokenizer.encode_fixed(f"{question}\n\nScore:")
    return ids[-(writer.seq_len - 12) :]


def check_unparsable(ratings: Sequence[int | None], limit: float) -> float:
    """The share of ratings that could not be read. Raises UserError above the limit: the base can't judge."""
    share = sum(rating is None for rating in ratings) / max(len(ratings), 1)
    if share > limit:
        raise UserError(
            f"--curate: {share:.0%} of {len(ratings)} ratings can't be read, more than --max_unparsable {limit:g}; "
            "this base does not follow the rating prompt, leave --curate out"
        )
    return share
