"""PDF: the text that lies in it, its lines made paragraphs again; a picture of a text has none."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from revinst.corpus.documents.encoding import check_size, join_paragraphs
from revinst.corpus.documents.metadata import authors_of, read_pdf_date
from revinst.corpus.texts import Ingested, Message
from revinst.errors import NotInstalled, UserError

MAX_PAGES = 5000
FEW_LETTERS = 10  # a page with fewer is a picture
PAGE_NUMBER = re.compile(r"\W*(?:page|seite|p\.)?\s*\d{1,4}(?:\s*(?:/|of|von)\s*\d{1,4})?\W*", re.IGNORECASE)
# What a browser prints above and below a page: when it was, and the page's address.
PRINTED = re.compile(r"\d{1,2}[/.]\d{1,2}[/.]\d{2,4}, \d{1,2}:\d{2}(?: [AP]M)?\b.*|(?:file|https?)://\S+(?: \d+/\d+)?")
LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st", 0: ""}
FULL_LINE = 0.75  # of the longest: a shorter one ends a paragraph
REPEATED = 3  # pages with the same first or last line: it is a header or a footer


def read_pdf(path: Path, where: str) -> Iterator[Ingested]:
    try:
        from pypdf import PdfReader
    except ImportError:
        raise NotInstalled(path, "pypdf") from None
    check_size(path)
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # of each oddity of a file; what can't be read raises
    reader = PdfReader(path)
    if reader.is_encrypted and not reader.decrypt(""):
        raise UserError(f"{path}: a PDF with a password")
    if len(reader.pages) > MAX_PAGES:
        raise UserError(f"{path}: a PDF of more than {MAX_PAGES} pages")
    pages = [page.extract_text() for page in reader.pages]
    if sum(letter.isalpha() for page in pages for letter in page) < FEW_LETTERS * min(len(pages), 3):
        raise UserError(f"{path}: a scanned PDF, pictures without text; let a program for OCR add that (ocrmypdf)")
    about: Mapping[str, object] = reader.metadata or {}
    author, date = authors_of([str(about.get("/Author") or "")]), read_pdf_date(about.get("/CreationDate"))
    yield Message(where, join_pages(pages), "note", author, "the documents", date, where, names=author)


def is_of_the_page(line: str) -> bool:
    return bool(PAGE_NUMBER.fullmatch(line) or PRINTED.fullmatch(line))


def join_pages(pages: list[str]) -> str:
    """Paragraphs of all pages, without page numbers, headers and footers."""
    lines_of = [[line.strip() for line in page.translate(LIGATURES).split("\n")] for page in pages]
    lines_of = [[line for line in lines if not (line and is_of_the_page(line))] for lines in lines_of]
    for end in (0, -1):
        repeated = Counter(lines[end] for lines in lines_of if lines)
        for lines in lines_of:
            if lines and repeated[lines[end]] >= REPEATED:
                lines.pop(end)
    lines = [line for lines in lines_of for line in lines]
    width = max(map(len, lines), default=0)
    paragraphs, is_open = [""], False
    for line in lines:
        if not line or not is_open:
            paragraphs.append(line)
        elif re.search(r"[^\W\d_]-\Z", paragraphs[-1]) and line[:1].islower():
            paragraphs[-1] = paragraphs[-1][:-1] + line
        else:
            paragraphs[-1] += f" {line}"
        is_open = bool(line) and len(line) >= FULL_LINE * width
    return join_paragraphs(paragraphs)
