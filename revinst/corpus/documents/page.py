"""HTML files: what a page says, and whether it is one that was saved from the web."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from revinst.corpus.documents.encoding import join_paragraphs, read_any_text
from revinst.corpus.documents.metadata import authors_of, read_any_date
from revinst.corpus.mail_text import MAX_TEXT, html_to_text
from revinst.corpus.texts import Ingested, Message
from revinst.errors import UserError

if TYPE_CHECKING:
    from lxml.html import HtmlElement

CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?([\w-]{1,40})", re.IGNORECASE)
HEAD_BYTES = 1 << 16
# Pages that messengers and Takeout make of what many people wrote, by the classes and names in them.
CHATS = re.compile(
    r"class=[\"'][^\"']{0,100}\b(?:from_name|chatlog__|_a6-g|_3-95|pam _3-95|outer-cell|hangouts|message-list|"
    r"msg-body|message default)|<title>(?:Exported Data|My Activity|Chat History)</title>"
)
SAVED = re.compile(r"<!--\s*(?:saved from url=|Page saved with SingleFile)", re.IGNORECASE)
NO_TEXT = "//nav | //aside | //footer | //form | //button | //noscript | //template | //iframe | //svg | //figcaption"
AUTHOR_NAMES = frozenset(("author", "article:author", "dc.creator", "dcterms.creator", "parsely-author"))
DATE_NAMES = ("article:published_time", "dcterms.created", "dc.date", "date", "created")
WEB_NAMES = frozenset(("og:url", "og:site_name", "twitter:site"))


def read_page(path: Path, where: str) -> Iterator[Ingested]:
    """Raises UserError for the page of a chat: it can't be told who wrote what in it."""
    with path.open("rb") as file:
        named = CHARSET.search(file.read(HEAD_BYTES))
    html = read_any_text(path, named[1].decode() if named else "")
    if CHATS.search(html):
        raise UserError(f"{path}: a page with what several people wrote; export it as JSON or text, not as HTML")
    tree = parse(html)
    if tree is None:
        yield Message(where, "", "note", conversation=where)
        return
    values = read_head(tree)
    author = authors_of(value for name, value in values if name in AUTHOR_NAMES and not value.startswith("http"))
    is_saved = bool(SAVED.search(html[:HEAD_BYTES])) or any(name in WEB_NAMES for name, _ in values)
    dates = (value for wanted in DATE_NAMES for name, value in values if name == wanted)
    yield Message(
        where,
        page_text(html),
        "note",
        author,
        "the documents",
        read_any_date(next(dates, "")),
        where,
        names=author,
        left_out="a saved web page that names no author" if is_saved and not author else "",
    )


def parse(html: str) -> "HtmlElement | None":
    import lxml.html

    if not html.strip():
        return None
    parser = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True)
    try:
        return lxml.html.document_fromstring(html[: MAX_TEXT * 4].encode("utf-8", "replace"), parser=parser)
    except (lxml.etree.ParserError, ValueError):  # nothing but comments
        return None


def read_head(tree: "HtmlElement") -> list[tuple[str, str]]:
    """Names and values of what a page says of itself; its author is also one by a microformat (Medium's export)."""
    found = [(str(each.get("name") or each.get("property") or "").lower(), str(each.get("content") or ""))
             for each in tree.xpath("//meta[@content]")]  # fmt: skip
    found += [
        ("author", each.text_content()) for each in tree.xpath("//*[contains(@class, 'p-author')] | //*[@rel='author']")
    ]
    return found + [
        ("date", str(each.get("datetime"))) for each in tree.xpath("//time[contains(@class, 'dt-published')]")
    ]


def page_text(html: str) -> str:
    """Paragraphs of a page, without quotations, menus and scripts."""
    import lxml.html

    tree = parse(html)
    if tree is None:
        return ""
    for element in tree.xpath(NO_TEXT):
        if element.getparent() is not None:
            element.drop_tree()
    text = html_to_text(lxml.html.tostring(tree, encoding="unicode")[:MAX_TEXT])
    lines = ["" if line in ("> ...", "_" * 10) else line for line in text.split("\n")]
    return join_paragraphs(re.split(r"\n\s*\n", "\n".join(lines)))
