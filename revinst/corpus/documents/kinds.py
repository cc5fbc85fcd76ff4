"""Kinds of documents: blogs, told by what is in them, and files of which the suffix alone tells what they are."""

from collections.abc import Callable, Iterator
from pathlib import Path

from revinst.corpus.documents.epub import read_epub
from revinst.corpus.documents.evernote import read_enex
from revinst.corpus.documents.markdown import read_markdown, read_text_note
from revinst.corpus.documents.office import read_docx, read_odt
from revinst.corpus.documents.page import read_page
from revinst.corpus.documents.pdf import read_pdf
from revinst.corpus.documents.rtf import read_rtf
from revinst.corpus.documents.substack import is_substack, read_substack
from revinst.corpus.documents.wordpress import is_wordpress, read_wordpress
from revinst.corpus.kind import Kind
from revinst.corpus.texts import Ingested
from revinst.errors import UserError

Read = Callable[[Path, str], Iterator[Ingested]]
# Files that are not read, and what makes them into ones that are.
CONVERT = {
    ".pst": "Outlook's mailbox; `readpst -o OUT FILE` (of libpst, package pst-utils) makes mbox files of it, give OUT",
    ".ost": "Outlook's mailbox; export it as .pst in Outlook, and `readpst -o OUT FILE` (of libpst) makes mbox files",
    ".olm": "the archive of Outlook for Mac; Olminator or olm-convert make mbox or .eml files of it, give these",
    ".doc": "an old Word file; `soffice --headless --convert-to docx FILE` (of LibreOffice) makes a .docx of it",
    ".pages": "a file of Pages; export it as Word (.docx) or EPUB there",
    ".mobi": "a book for Kindle; `ebook-convert` (of calibre) makes an .epub of it",
}


def guard(read: Read) -> Read:
    """A damaged file is one line for the user, whatever its library raises."""

    def read_guarded(path: Path, where: str) -> Iterator[Ingested]:
        try:
            yield from read(path, where)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # pypdf, striprtf and expat have no kind in common
            kind = path.suffix.lower().lstrip(".")
            raise UserError(f"{path}: not a whole {kind} file, it can't be read ({type(error).__name__})") from None

    return read_guarded


def by_suffix(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.suffix.lower() in suffixes and path.is_file()


BLOGS = (
    Kind(
        "WordPress (.xml)",
        "`wordpress.org/export` at the beginning of an XML file",
        "your published posts and pages, and your comments that are shown, without quotations and shortcodes",
        "Tools > Export > All content",
        is_wordpress,
        guard(read_wordpress),
    ),
    Kind(
        "Substack",
        "`posts.csv` with `post_id` and `is_published`, and a page a post",
        "published posts; the export names nobody, since it is the owner's",
        "Settings > Export your data",
        is_substack,
        guard(read_substack),
    ),
)
DOCUMENTS = (
    Kind(
        "Word (.docx)",
        "the suffix, and WordprocessingML in it",
        "paragraphs and tables, no comments, notes, quotations, deletions, insertions of others",
        "Save as, or of Google Docs: File > Download, or a Takeout",
        by_suffix(".docx"),
        guard(read_docx),
    ),
    Kind(
        "LibreOffice (.odt)",
        "the suffix, and OpenDocument in it",
        "as of Word",
        "Save as",
        by_suffix(".odt"),
        guard(read_odt),
    ),
    Kind(
        "RTF (.rtf)",
        "the suffix and `{\\rtf`",
        "the text",
        "TextEdit, WordPad, or Save as",
        by_suffix(".rtf"),
        guard(read_rtf),
    ),
    Kind(
        "PDF (.pdf)",
        "the suffix",
        "text, its lines joined, without page numbers, headers and footers; a scanned one is refused",
        "Print or Save as",
        by_suffix(".pdf"),
        guard(read_pdf),
    ),
    Kind(
        "EPUB (.epub)",
        "the suffix, and a package in it",
        "its chapters, one conversation",
        "File > Export",
        by_suffix(".epub"),
        guard(read_epub),
    ),
    Kind(
        "HTML (.html)",
        "the suffix",
        "the page without quotations and menus; saved web pages of nobody and chats as pages are refused",
        "Save as, Medium's export (Settings > Security > Download your information)",
        by_suffix(".html", ".htm", ".xhtml"),
        guard(read_page),
    ),
    Kind(
        "Evernote (.enex)",
        "the suffix",
        "your notes; those clipped from the web, or of another author, are left out",
        "Export notes > ENEX",
        by_suffix(".enex"),
        guard(read_enex),
    ),
    Kind(
        "Markdown (.md), of Obsidian and Notion too",
        "the suffix; Notion's pages by the 32 digits in their names",
        "the text, its date from the front matter or Notion's properties; clippings of others, quotations, properties "
        "and links' targets are left out, callouts stay",
        "the vault's folder; of Notion: Settings > Export all workspace content > Markdown & CSV",
        by_suffix(".md", ".markdown"),
        guard(read_markdown),
    ),
    Kind(
        "text (.txt)",
        "the suffix",
        "the file; UTF-8, UTF-16, UTF-32, and Latin-1 where that is certain",
        "any editor",
        by_suffix(".txt"),
        guard(read_text_note),
    ),
)
