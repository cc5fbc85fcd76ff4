"""Texts, or instructions, alone in a file or folder, read as those of records are."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from revinst.data.examples import Example, build_example, build_text, check_columns, find_columns, make_unique
from revinst.data.formats import BadRecord, read_file, to_utf_8
from revinst.data.messages import has_column
from revinst.data.sources import say, shorten
from revinst.data.unpacked import read_text
from revinst.errors import UserError

TEXT_SUFFIXES = (".txt", ".md")


def read_texts(
    path: Path,
    column: str | None = None,
    columns: Mapping[str, str] | None = None,
    strip_citations: bool = False,
    *,
    field: str = "response",
    context: str | None = None,
) -> Iterator[Example]:
    """Texts as Examples; what else these have is what the file itself gives. Raises UserError naming a record.

    column: that holds the text; None: the one that `columns` names, field -> column, or the field's own name.
    strip_citations: without marks such as [12]. field: `instruction` for a file of these. context: the column that
    holds it, as `column` is the text's.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in TEXT_SUFFIXES)
        if not files:
            raise UserError(f"{path}: no {' or '.join(TEXT_SUFFIXES)} files in this folder")
        if others := sorted(file.name for file in path.iterdir() if file not in files and file.name[0] != "."):
            say(f"{path}: {shorten(others)} beside the texts, not read")
        for file in files:
            yield read_text_file(file, strip_citations, field)
    elif not path.is_file():
        raise UserError(f"{path}: no such file or folder")
    elif path.suffix.lower() in TEXT_SUFFIXES:
        yield read_text_file(path, strip_citations, field)
    else:
        named = {name: given for name, given in ((field, column), ("context", context)) if given}
        yield from read_text_records(path, dict(columns or check_columns({})), named, strip_citations, field)


def read_text_file(path: Path, strip_citations: bool, field: str) -> Example:
    try:
        return build_text(read_text(path), strip_citations, path.name, field)
    except (UnicodeDecodeError, BadRecord) as error:
        raise UserError(
            f"{path}: {error if isinstance(error, BadRecord) else f'not UTF-8; {to_utf_8(path)}'}"
        ) from None


def read_text_records(
    path: Path, columns: dict[str, str], named: dict[str, str], strip_citations: bool, field: str
) -> Iterator[Example]:
    repeats: Counter[str] = Counter()
    for where, record in read_file(path):
        try:
            if isinstance(record, BadRecord):
                raise record
            names = find_columns(record, columns) | named
            if not isinstance(record, dict) or not has_text(record, names[field]):
                has = ", ".join(map(str, record)) if isinstance(record, dict) else type(record).__name__
                raise BadRecord(f"no text in {names[field]!r} (the row has {has}); name the field with --column")
            text = build_example(record, names, (field,), strip_citations)
        except BadRecord as reason:
            raise UserError(f"{where}: {reason}") from None
        yield replace(text, id=make_unique(text.id, repeats))


def has_text(record: dict[str, object], name: str) -> bool:
    return isinstance(record.get(name), str) or (name not in record and has_column(record, name))
