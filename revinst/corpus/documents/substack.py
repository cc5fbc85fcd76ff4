"""Substack's export: a folder (or its ZIP) with posts.csv, which says what was published, and a page a post."""

import csv
from collections.abc import Iterator
from pathlib import Path

from revinst.corpus.documents.encoding import read_any_text
from revinst.corpus.documents.metadata import read_any_date
from revinst.corpus.documents.page import page_text
from revinst.corpus.texts import Ingested, Message, NotKept
from revinst.system import allow_long_csv_fields


def is_substack(path: Path) -> bool:
    table = path / "posts.csv"
    if not path.is_dir() or not table.is_file():
        return False
    with table.open("rb") as file:
        header = file.readline(10_000)
    return b"post_id" in header and b"is_published" in header


def read_substack(path: Path, where: str) -> Iterator[Ingested]:
    """The newsletter is its owner's, who alone can export it; lists of subscribers and views are not read."""
    allow_long_csv_fields()
    pages = {file.name.partition(".")[0]: file for file in sorted(path.rglob("*.html")) if not file.is_symlink()}
    rows = csv.DictReader(read_any_text(path / "posts.csv").splitlines())
    for row in rows:
        key = str(row.get("post_id") or "").partition(".")[0]
        here = f"{where}/posts/{key}"
        page = pages.pop(key, None)
        if page is None:
            yield NotKept(here, "a post without its page")
            continue
        is_published = str(row.get("is_published")).strip().lower() == "true"
        yield Message(
            here,
            page_text(read_any_text(page)),
            "post",
            date=read_any_date(row.get("post_date")),
            conversation=here,
            left_out="" if is_published else "not published",
        )
    for key in pages:
        yield NotKept(f"{where}/posts/{key}", "a page that posts.csv does not name")
    others = sum(file.is_file() and file.suffix.lower() != ".html" for file in path.rglob("*")) - 1
    if others:
        yield NotKept(where, f"{others} other files of the export: subscribers, views, pictures")
