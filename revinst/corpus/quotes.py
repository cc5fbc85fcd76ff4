# ruff: noqa: E501, RUF001  (patterns)
"""What somebody wrote in a mail, without what others wrote: quotes, forwards, header blocks, signatures.

Lines are judged from the top. A header block or a forward's mark cuts off all that follows; a quoted stretch (`>`)
and the line that introduces it go, what is written between and below stays (interleaved answers).
"""

import re
from collections.abc import Iterable

from revinst.corpus.blocks import DASHED, MAX_LINE, cut_at_marks, is_quoted
from revinst.corpus.introductions import (
    attribution_length,
    introduces_quote,
    introduces_the_rest,
    is_dashed_introduction,
    split_introduction,
)
from revinst.corpus.signatures import cut_signature

MAX_ATTRIBUTION_LINES = 5

PGP = re.compile(r"-----BEGIN PGP MESSAGE-----.*?(?:-----END PGP MESSAGE-----|\Z)", re.DOTALL)

PGP_SIGNED, PGP_SIGNATURE = "-----BEGIN PGP SIGNED MESSAGE-----\n", "-----BEGIN PGP SIGNATURE-----"

PGP_HEADERS = re.compile(r"\A(?:[\w-]+: [^\n]*\n)*+\n?")

# An address that is wrapped before its bracket, which then looks like a quote: "<ann@example.org\n> wrote:"
WRAPPED_ADDRESS = re.compile(
    r"\s{0,3}<\s{0,3}(?:mailto:[^<>\n]{0,80}<?)?(?P<address>[^<>\s@]{1,64}@[^<>\s@]{1,200})>?[ \t]*\n{1,2}>[ \t]?(?P<end>[^\n>]{0,80}[:：])[ \t]*$",
    re.MULTILINE,
)

WRAPPED_BRACKET = re.compile(r"<[ \t]{0,3}\n[ \t]{0,3}(?=[^\s<>@]{1,64}@[^\s<>@]{1,200}>)")

INITIALS = re.compile(r"\A\s{0,4}[A-Z]{1,3}>")

WIDTHS = (62, 82)  # characters of a line that was wrapped

# A table ends its lines with a bar.
PIPED = re.compile(r"\A\s*(?:[|\u2502\u00a6\u00bb\uff1e]|&gt;|:\s|[A-Za-z]{1,12}>)(?!.*\|\s*$)")

ORNAMENT = re.compile(r"\A\s*>>[>\s]*[^<>\s].*<<\s*$")  # ">>> read this <<<"

OPEN_LINK, LINK_END = re.compile(r"[(<]https?://[^\s)>]*$"), re.compile(r"\A\S*[)>]\s*$")

LINK_AND_MARK = re.compile(r"\A\s*[(<]https?://[^\s()<>]*[)>]\s+>\s*$")

MAX_NAME_WORDS = 5


def strip_quotes(text: str, people: Iterable[str] = ()) -> str:
    """The writer's own lines of a mail's plain text; "" where there are none. people: the names in its headers."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ").replace("\u200b", "")
    text = WRAPPED_BRACKET.sub("<", WRAPPED_ADDRESS.sub(r" <\g<address>> \g<end>", drop_armour(text)))
    lines = drop_quoted(cut_at_marks(text.split("\n")), [name.lower() for name in people if len(name) > 2])
    kept = cut_signature(lines)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in kept)).strip()


def drop_armour(text: str) -> str:
    """Without what PGP wrote around or in place of the text."""
    signed, signature = text.partition(PGP_SIGNED)[2].partition(PGP_SIGNATURE)[:2]
    if signature:
        text = re.sub(r"^- ", "", PGP_HEADERS.sub("", signed), flags=re.MULTILINE)
    return PGP.sub("", text)


def drop_quoted(lines: list[str], people: list[str]) -> list[str]:
    """Without quoted lines and what introduces them; an introduction with no quoted line after it cuts the rest."""
    has_quotes = find_quoted(lines, people)
    next_text = find_next_text(lines)
    kept: list[str] = []
    number = 0
    while number < len(lines):
        if has_quotes[number]:
            number += 1
            continue
        own, line = split_introduction(lines[number])
        introduction = [line, *lines[number + 1 : number + MAX_ATTRIBUTION_LINES]]
        length = attribution_length(introduction)
        following = next_text[number + (length or 1)]
        is_above_quote = following is not None and has_quotes[following]
        if is_above_quote and (length or introduces_quote(line, people)):
            kept = drop_name(drop_dashed(kept), line) + [own] * bool(own)
            number += length or 1
        elif is_dashed_introduction(line) or (
            length and introduces_the_rest(" ".join(introduction[:length]), "".join(kept[-1:]))
        ):
            kept = drop_name(drop_dashed(kept), line) + [own] * bool(own)
            break  # the client quotes without marks
        else:
            kept.append(lines[number])
            number += 1
    return kept


def drop_dashed(kept: list[str]) -> list[str]:
    """Without a line such as `---- Forwarded ----` at the end, which some programs put above an introduction."""
    end = len(kept)
    while end and not kept[end - 1].strip():
        end -= 1
    return kept[: end - 1] if end and len(kept) - end <= 2 and DASHED.match(kept[end - 1][:MAX_LINE]) else kept


def drop_name(kept: list[str], introduction: str) -> list[str]:
    """Without the name at the end, on a line of its own, where an introduction goes on with the address."""
    is_wrapped_name = introduction.lstrip()[:1] == "<" and kept and 0 < len(kept[-1].split()) <= MAX_NAME_WORDS
    return kept[:-1] if is_wrapped_name else kept


def find_quoted(lines: list[str], people: list[str]) -> list[bool]:
    """Which lines are quoted: by `>`; by `|`, other marks or a name too, where an introduction stands above them."""
    found, above, is_open = [], "", False
    initials = [INITIALS.match(line) for line in lines]
    marked = find_marked(lines)
    for number, line in enumerate(lines):
        if PIPED.match(line):
            is_open = is_open or introduces_quote(above, people) or bool(attribution_length([above]))
        elif line.strip():
            is_open = False
        prefix = initials[number]
        neighbours = (
            each for each in (*initials[max(number - 1, 0) : number], *initials[number + 1 : number + 2]) if each
        )
        has_initials = bool(prefix and any(each[0] == prefix[0] for each in neighbours))
        found.append(marked[number] or has_initials or (is_open and bool(PIPED.match(line))))
        above = line if line.strip() else above
    return found


def find_marked(lines: list[str]) -> list[bool]:
    """Which lines have a `>`, or are the ends of such lines that a program wrapped."""
    marked = [is_quoted(line) for line in lines]
    for number, line in enumerate(lines):
        if marked[number] and ORNAMENT.match(line[:MAX_LINE]):
            marked[number] = any(marked[max(number - 1, 0) : number] + marked[number + 1 : number + 2])
    maybe = []
    for number in range(1, len(lines)):
        if not marked[number] and marked[number - 1] and lines[number].strip():
            above, line = lines[number - 1].rstrip(), lines[number]
            if is_wrapped(above, line, is_between=any(marked[number + 1 : number + 2])):
                marked[number] = True
            elif is_full(above) and above[-1].isalnum() and line[:1].islower() and len(line) <= WIDTHS[1]:
                maybe.append(number)
    if len(maybe) >= 2:  # one may be somebody's answer
        for number in maybe:
            marked[number] = True
    return marked


def is_wrapped(above: str, line: str, is_between: bool) -> bool:
    """Whether a line surely goes on with the quoted one above it. is_between: the one below it is quoted too."""
    if above.endswith("=") and len(above) >= WIDTHS[0]:  # quoted-printable that nobody decoded
        return True
    if len(line) > WIDTHS[1] or not is_between:
        return False
    is_link = bool(OPEN_LINK.search(above[-MAX_LINE:]) and LINK_END.match(line)) or bool(LINK_AND_MARK.match(line))
    return is_link or (is_full(above) and (above[-1].isalnum() or above[-1] == ",") and line[:1].islower())


def is_full(line: str) -> bool:
    return WIDTHS[0] <= len(line) <= WIDTHS[1]


def find_next_text(lines: list[str]) -> list[int | None]:
    """For each line, and for the end, the first one from there on that is not blank; None where there is none."""
    found: list[int | None] = [None]
    for number in range(len(lines) - 1, -1, -1):
        found.append(number if lines[number].strip() else found[-1])
    return found[::-1]
