"""Long texts to chunks that stand alone: cut where a part with its own heading begins, or else between paragraphs.

# Bread          # Bread        # Soup
Flour ...   ->   Flour ...      Onions ...
# Soup
Onions ...
"""

# ruff: noqa: RUF001  # signs of other scripts are meant
import re
from collections.abc import Iterable, Iterator
from math import ceil

from revinst.corpus.texts import Record
from revinst.data.words import count_words

CHUNK_WORDS = 500  # at most, as `count_words` has them: some 700 tokens of English, which rows of 1,024 hold
HEADING_WORDS = 12  # of a line that stands alone
MARKED = re.compile(r"#{1,6}\s")  # Markdown's
UNDERLINE = re.compile(r"\A[=-]{3,}+\s*+\Z")
ENDED = (*".,;:!?…。！？،؛।", *"\"'”’»)")
FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
BLANK = re.compile(r"\n[ \t]*+\n(?:[ \t]*+\n)*+")
# Where a paragraph is cut that is too long itself, the finer only where the coarser does not do.
PIECES = (
    re.compile(
        r"[^.!?…。！？।\n]*+(?:[.!?…]++[\"'”’»)]*+\s++|[。！？।]++\s*+|\n\s*+|[.!?…]++|\Z)"
    ),  # sentences and lines
    re.compile(r"\S+\s*"),
    re.compile(r"[\s\S]{1,200}"),
)


def split_record(record: Record, longest: int) -> Iterator[Record]:
    """The record, or one a chunk of a text with more words than `longest` (0: none has); the first has its context."""
    text = record["text"]
    if not longest or len(text) <= longest or count_words(text) <= longest:  # a word is a character and more
        yield record
        return
    for number, chunk in enumerate(split_text(text, CHUNK_WORDS), start=1):
        place = {"id": f"{record['id']}-{number}", "where": f"{record['where']}, part {number}"}
        context = record["context"] if number == 1 else ""
        yield record | place | {"text": chunk, "context": context, "document": record["id"]}


def document_of(record: Record) -> str:
    """The id of the whole text that it is a chunk of, or all of."""
    return str(record.get("document", record["id"]))


def split_text(text: str, most: int) -> list[str]:
    """Chunks of at most `most` words, of about the same length; a heading stands with what follows it."""
    text = text.strip()
    between = "\n\n" if BLANK.search(text) else "\n"  # paragraphs
    units = list(cut_units(text, between, most))
    lengths = [count_words(unit) for unit, _ in units]
    aim = sum(lengths) / ceil(sum(lengths) / most)
    chunks, held = list[list[str]](), 0.0
    for (unit, begins_part), length in zip(units, lengths, strict=True):
        is_full = held + length > most or held + length / 2 > aim or (begins_part and held > aim / 2)
        if is_full or not chunks:
            chunks.append([])
            held = 0.0
        chunks[-1].append(unit)
        held += length
    return [between.join(chunk) for chunk in chunks]


def cut_units(text: str, between: str, most: int) -> Iterator[tuple[str, bool]]:
    """(a paragraph with the headings above it, or a piece of one that is too long; whether it begins a part)."""
    headings = list[str]()
    blocks = split_blocks(BLANK.split(text) if between == "\n\n" else text.split("\n"))
    for number, block in enumerate(blocks):
        if is_heading(block) and number + 1 < len(blocks):
            headings.append(block)
            continue
        for place, piece in enumerate(cut(between.join([*headings, block]), most)):
            yield piece, bool(headings) and not place
        headings = []


def split_blocks(parts: Iterable[str]) -> list[str]:
    """Paragraphs of a text that was cut at its blank lines, or lines; code between fences is one, whatever is in it."""
    blocks, is_open = list[list[str]](), False
    for part in filter(str.strip, parts):
        if not is_open:
            blocks.append([])
        blocks[-1].append(part.rstrip())
        is_open ^= len(FENCE.findall(part)) % 2 == 1
    return ["\n\n".join(block) for block in blocks]


def is_heading(block: str) -> bool:
    """A line that Markdown marks as one, or a short line alone that no sign ends."""
    first, *others = block.strip().split("\n")
    if MARKED.match(first):
        return not others
    is_alone = not others or (len(others) == 1 and bool(UNDERLINE.match(others[0])))
    return is_alone and not first.endswith(ENDED) and count_words(first) <= HEADING_WORDS


def cut(block: str, most: int) -> list[str]:
    """Pieces of at most `most` words: whole sentences or lines, whole words, or what is left of these."""
    pieces = [(block, count_words(block))]
    for pattern in PIECES:
        coarse, pieces = pieces, []
        for piece, length in coarse:
            finer = filter(None, pattern.findall(piece)) if length > most else ()
            pieces += [(part, count_words(part)) for part in finer] or [(piece, length)]
    parts, held = [""], 0.0
    for piece, length in pieces:
        if held + length > most and parts[-1].strip():
            parts.append("")
            held = 0.0
        parts[-1] += piece
        held += length
    return [part.strip() for part in parts if part.strip()]
