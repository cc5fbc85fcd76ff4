"""Rich Text Format, by `striprtf`."""

import re
from collections.abc import Iterator
from pathlib import Path

from revinst.corpus.documents.encoding import check_size, join_paragraphs
from revinst.corpus.documents.metadata import authors_of, read_any_date
from revinst.corpus.texts import Ingested, Message
from revinst.errors import NotInstalled, UserError

MAX_RTF = 20 << 20  # characters beside pictures; `striprtf` matches a pattern at each control word
PICTURE = re.compile(r"(?:[0-9a-fA-F]{2,}\s*){200,}+")
AUTHOR = re.compile(r"\{\\author ([^{}]{1,200})\}")
CREATED = re.compile(r"\\creatim\\yr(\d{4})\\mo(\d{1,2})\\dy(\d{1,2})")
DELETED = re.compile(r"\{(?:\\\w+ ?)*\\deleted\b[^{}]*\}")


def read_rtf(path: Path, where: str) -> Iterator[Ingested]:
    try:
        from striprtf.striprtf import rtf_to_text
    except ImportError:
        raise NotInstalled(path, "striprtf") from None
    check_size(path)
    content = PICTURE.sub("", path.read_text(encoding="latin-1"))  # RTF is ASCII; what is not, the file escapes
    if not content.lstrip().startswith("{\\rtf") or len(content) > MAX_RTF:
        raise UserError(f"{path}: not an RTF file of less than {MAX_RTF >> 20} MiB")
    names = [rtf_to_text(name, errors="replace") for name in AUTHOR.findall(content)[:1]]
    created = CREATED.search(content)
    date = read_any_date("{}-{:0>2}-{:0>2}".format(*created.groups())) if created else ""
    text = rtf_to_text(DELETED.sub("", content), errors="replace")
    author = authors_of(names)
    paragraphs = join_paragraphs(text.split("\n"))
    yield Message(where, paragraphs, "note", author, "the documents", date, where, names=author)
