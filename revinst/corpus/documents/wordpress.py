"""WordPress's export (WXR): published posts and pages by me, and my comments below them."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from revinst.corpus.documents.feeds import begins_with, read_fields, stream_elements
from revinst.corpus.documents.metadata import read_any_date
from revinst.corpus.documents.page import page_text
from revinst.corpus.texts import Ingested, Message, NotKept

SHORTCODE = re.compile(r"\[/?[a-z][\w-]{1,30}(?:\s[^\[\]]{0,2000})?/?\]")
LINE = re.compile(r"(?<![>\n])\n(?!\s*<)")  # of the classic editor, whose paragraphs have no tags


def is_wordpress(path: Path) -> bool:
    return begins_with(path, ".xml", b"wordpress.org/export/")


def read_wordpress(path: Path, where: str) -> Iterator[Ingested]:
    """The authors that the blog lists have a login in each post, and a name and address in the list."""
    authors: dict[str, tuple[str, ...]] = {}
    number = 0
    for element in stream_elements(path, "author", "item"):
        fields = read_fields(element)
        if "author_login" in fields:
            login = fields["author_login"]
            named = (fields.get("author_display_name", ""), login, fields.get("author_email", ""))
            authors[login] = tuple(dict.fromkeys(filter(None, named)))
        elif "post_type" in fields:
            number += 1
            yield from read_item(element, fields, authors, f"{where}#{number}")


def read_item(
    item: Element, fields: dict[str, str], authors: dict[str, tuple[str, ...]], where: str
) -> Iterator[Ingested]:
    if fields["post_type"] not in ("post", "page"):
        yield NotKept(where, "no post and no page of the blog")
        return
    login = fields.get("creator", "")
    author = authors.get(login, (login,) if login else ())
    status = fields.get("status", "")
    is_protected = status != "publish" or bool(fields.get("post_password"))
    yield Message(
        where,
        post_text(fields.get("encoded", "")),
        "post",
        author,
        "WordPress",
        read_any_date(fields.get("post_date_gmt")) or read_any_date(fields.get("post_date")),
        where,
        names=author,
        left_out="not published" if is_protected else "",
    )
    for number, comment in enumerate((each for each in item if each.tag.endswith("}comment")), start=1):
        about = read_fields(comment)
        named = (about.get("comment_author", ""), about.get("comment_author_email", ""))
        by = tuple(dict.fromkeys(filter(None, named))) or ("somebody",)
        date = read_any_date(about.get("comment_date_gmt"))
        is_shown = about.get("comment_approved") == "1" and about.get("comment_type", "") in ("", "comment")
        yield Message(
            f"{where}/comment {number}",
            page_text(about.get("comment_content", "")),
            "post",
            by,
            "WordPress",
            date,
            where,
            names=by,
            left_out="" if is_shown else "a comment that is not shown",
        )


def post_text(html: str) -> str:
    return page_text(LINE.sub("<br>", re.sub(r"\n\s*\n", "\n<p>", SHORTCODE.sub("", html))))
