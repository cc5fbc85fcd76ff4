"""Notes: plain text, and Markdown as Obsidian and Notion write it, with what they say of themselves above it."""

import re
from collections.abc import Iterator
from pathlib import Path

from revinst.corpus.documents.encoding import read_any_text
from revinst.corpus.documents.metadata import authors_of, read_any_date
from revinst.corpus.texts import Ingested, Message

FRONT = re.compile(r"\A---[ \t]*\n(.{0,50000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
NOTION = re.compile(r" [0-9a-f]{32}\Z")  # at the end of a page's file name
PROPERTY = re.compile(r"([A-Za-z][\w /-]{0,40}): (\S.{0,2000})")
AUTHOR_KEYS = ("author", "authors", "by", "created by", "creator")
SOURCE_KEYS = ("source", "url", "link", "source url", "original url", "canonical url", "web url", "permalink")
DATE_KEYS = ("date", "created", "created at", "created time", "date created", "creation date", "published", "updated")
CLIPPED = frozenset(("clipping", "clippings", "web-clip", "webclip", "web clip", "clipped", "readwise", "highlights"))
FENCE = re.compile(r"\s*(```|~~~)\s*(\w*)")
QUERIES = frozenset(("dataview", "dataviewjs", "tasks", "query"))  # of plugins: what they find is shown in their place
# In order: what is embedded, links to pages by their other name or their own, links by their text, marks of a block.
MARKUP = (
    (re.compile(r"!\[\[[^\[\]\n]*\]\]|!\[[^\[\]\n]*\]\([^()\n]*\)"), ""),
    (re.compile(r"\[\[[^\[\]\n|]*\|([^\[\]\n]*)\]\]"), r"\1"),
    (re.compile(r"\[\[([^\[\]\n]*)\]\]"), r"\1"),
    (re.compile(r"(?<!\!)\[([^\[\]\n]+)\]\((?:[^()\n]|\([^()\n]*\))*\)"), r"\1"),
    (re.compile(r"<(?:https?://|mailto:)[^<>\s]*>"), ""),
    (re.compile(r"[ \t]\^[\w-]+$", re.MULTILINE), ""),
)
COMMENTS = (("<!--", "-->"), ("%%", "%%"))
FIELD = re.compile(r"[ \t]*(?:[-*] )?[\w -]{1,40}::.*")  # a page's property in its text
TAGS = re.compile(r"[ \t]*(?:#[^\W\d][\w/-]*[ \t]*)+")
CALLOUT = re.compile(r">[ \t]*\[![\w-]+\][+-]?[ \t]*")


def read_text_note(path: Path, where: str) -> Iterator[Ingested]:
    yield Message(where, read_any_text(path).strip(), "note", conversation=where)  # a file's date is often its copy's


def read_markdown(path: Path, where: str) -> Iterator[Ingested]:
    text = read_any_text(path)
    values, text = split_notion(text) if NOTION.search(path.stem) else split_front(text)
    author = authors_of(listed(values, *AUTHOR_KEYS))
    yield Message(
        where,
        clean_markdown(text),
        "note",
        author,
        "the notes",
        next(filter(None, map(read_any_date, listed(values, *DATE_KEYS))), ""),
        where,
        names=author,
        left_out="" if author or not is_clipping(values) else "a clipping that names no author",
    )


def is_clipping(values: dict[str, object]) -> bool:
    tags = {tag.strip(" #").casefold() for value in listed(values, "tags", "tag") for tag in re.split(r"[,\s]+", value)}
    return bool(tags & CLIPPED) or any(re.match(r"\W*https?://", value) for value in listed(values, *SOURCE_KEYS))


def listed(values: dict[str, object], *names: str) -> list[str]:
    """What these properties hold, in the order of the names, each as a list of texts."""
    found = (values.get(name) for name in names)
    return [str(each) for value in found for each in (value if isinstance(value, list) else [value])
            if isinstance(each, str | int | float) or hasattr(each, "isoformat")]  # fmt: skip


def split_front(text: str) -> tuple[dict[str, object], str]:
    """(properties by their names in lower case, the text below them); ({}, text) where there are none."""
    import yaml

    text = text.removeprefix("\ufeff")
    if not (front := FRONT.match(text)):
        return {}, text
    try:
        values = yaml.safe_load(front[1])
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError):  # it is none, or of bad dates
        values = {name: value.strip("\"' ") for name, value in PROPERTY.findall(front[1])}
    if not isinstance(values, dict):
        return {}, text
    return {tidy_name(name): value for name, value in values.items()}, text[front.end() :]


def split_notion(text: str) -> tuple[dict[str, object], str]:
    """A page's title stays; below it stand its properties, a line each, up to a blank line."""
    lines = text.removeprefix("\ufeff").split("\n")
    start = 2 if lines[0].startswith("# ") and lines[1:2] == [""] else 0
    values: dict[str, object] = {}
    end = start
    while end < len(lines) and (found := PROPERTY.fullmatch(lines[end])):
        values[tidy_name(found[1])] = found[2].strip()
        end += 1
    if end < len(lines) and lines[end].strip():  # a text whose first lines look like properties
        return {}, text
    return values, "\n".join(lines[:start] + lines[end:])


def tidy_name(name: object) -> str:
    return re.sub(r"[\s_-]+", " ", str(name)).strip().casefold()


def clean_markdown(text: str) -> str:
    """Links as they read, and without quotations, comments, embedded files and properties; code stays as it is."""
    kept: list[str] = []
    prose: list[str] = []
    fence, language = "", ""
    for start, end in COMMENTS:
        text = drop_between(text, start, end)
    for line in text.split("\n"):
        mark = FENCE.match(line)
        if not fence and not mark:
            prose.append(line)
            continue
        if not fence and mark:
            kept += clean_prose(prose)
            prose, fence, language = [], mark[1], mark[2].lower()
            kept += [line] * (language not in QUERIES)
            continue
        kept += [line] * (language not in QUERIES)
        if mark and mark[1] == fence and not mark[2]:
            fence = ""
    kept += clean_prose(prose)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def drop_between(text: str, start: str, end: str) -> str:
    """In linear time: a pattern would look for the end once more at each start."""
    kept, place = [], 0
    while (first := text.find(start, place)) >= 0 and (last := text.find(end, first + len(start))) >= 0:
        kept.append(text[place:first])
        place = last + len(end)
    return "".join(kept) + text[place:]


def clean_prose(lines: list[str]) -> list[str]:
    found: list[str] = []
    in_callout = False
    for line in lines:
        is_quoted = line.startswith(">")
        in_callout = is_quoted and (in_callout or bool(CALLOUT.match(line)))
        if in_callout:
            text = CALLOUT.sub("", line) if CALLOUT.match(line) else line.removeprefix(">").removeprefix(" ")
        elif is_quoted:
            continue
        else:
            text = line
        if not FIELD.fullmatch(text) and not TAGS.fullmatch(text):
            found.append(text)
    text = "\n".join(found)
    for pattern, with_what in MARKUP:
        text = pattern.sub(with_what, text)
    return text.split("\n")
