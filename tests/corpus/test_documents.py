"""Documents of every kind: what their owner wrote and nothing of others; and no damage ends with a traceback."""

import builtins
import random
from importlib.util import find_spec

import pytest

from revinst.corpus.documents.metadata import authors_of, read_any_date, read_pdf_date
from revinst.corpus.documents.pdf import join_pages
from revinst.corpus.ingest import Ingest
from revinst.errors import NotInstalled, UserError
from tests.corpus import made_documents as made
from tests.corpus.made_documents import ALSO_MINE, KIM, ME, MINE, THEIRS

LIBRARIES = {"rtf": "striprtf", "pdf": "pypdf", "msg": "oxmsg"}
WRITERS = {
    "docx": made.write_docx, "odt": made.write_odt, "epub": made.write_epub, "html": made.write_html,
    "rtf": made.write_rtf, "pdf": made.write_pdf, "enex": made.write_enex, "xml": made.write_wordpress,
    "md": made.write_markdown, "emlx": made.write_emlx, "zip": made.write_substack,
    "msg": lambda path: made.write_msg(path, MAIL),
}  # fmt: skip
NAMING = ("docx", "odt", "epub", "html", "rtf", "pdf", "md")  # an author of the whole document
MAIL = {0x0037: "The mill", 0x1000: f"{MINE}\r\n\r\n{ALSO_MINE}", 0x0C1A: ME, 0x5D01: "mara@example.org"}


def kinds(names):
    def mark(name):
        library = LIBRARIES.get(name)
        is_missing = library is not None and find_spec(library) is None
        return pytest.mark.skipif(is_missing, reason=f"{library} is not installed: pip install 'revinst[own]'")

    return [pytest.param(name, marks=mark(name)) for name in names]


def read(path, *me):
    ingest = Ingest(path, me or ("mara@example.org", ME))
    return list(ingest.texts()), [note.reason for note in ingest.not_kept]


@pytest.mark.parametrize("kind", kinds(WRITERS))
def test_mine_alone(tmp_path, kind):
    texts, reasons = read(WRITERS[kind](tmp_path / f"a.{kind}"))
    whole = "\n".join(text.text for text in texts)
    assert all(" ".join(mine.split()) in " ".join(whole.split()) for mine in (MINE, ALSO_MINE))
    assert not any(
        word in whole for word in ("Kim", "gone", "draft", "Home", "Contents", "HYPERLINK", "status", "<", "[")
    )
    assert texts[0].date[:10] == "2026-03-02" or kind == "msg"
    assert len(reasons) == {"enex": 2, "xml": 4, "zip": 3}.get(kind, 0)


@pytest.mark.parametrize("kind", kinds(NAMING))
def test_a_document_of_somebody_else(tmp_path, kind):
    path = WRITERS[kind](tmp_path / f"a.{kind}", f"{KIM} II")
    texts, reasons = read(path)
    assert texts == [] and set(reasons) == {"not written by me"}
    texts, _ = read(WRITERS[kind](tmp_path / f"a.{kind}", "user"))
    assert texts and texts[0].author == "", "what programs write names nobody"
    texts, reasons = read(WRITERS[kind](tmp_path / f"a.{kind}", f"{ME}; {KIM}"))
    assert texts == [] and reasons, "two wrote it"


def test_documents_of_several_authors_ask_who_is_me(tmp_path):
    made.write_docx(tmp_path / "a.docx", "Ann Bee")
    made.write_odt(tmp_path / "b.odt", "Cy Dee")
    with pytest.raises(UserError, match=r"the documents in it names its authors \(Ann Bee, Cy Dee\).*--me"):
        Ingest(tmp_path)


@pytest.mark.parametrize("kind", kinds(["msg"]))
def test_drafts_and_senders_of_outlook(tmp_path, kind):
    path = made.write_msg(tmp_path / "a.msg", MAIL, flags=8)
    assert read(path) == ([], ["a draft"])
    path = made.write_msg(tmp_path / "a.msg", MAIL | {0x5D01: "kim@example.org"})
    assert read(path) == ([], ["not sent by me"])
    came = {0x007D: "From: Mara <mara@example.org>\r\nDate: Mon, 2 Mar 2026 10:00:00 +0000\r\nSubject: x\r\n\r\n"}
    texts, _ = read(made.write_msg(tmp_path / "a.msg", {0x1000: MINE} | came))
    assert [(text.text, text.date) for text in texts] == [(MINE, "2026-03-02T10:00:00+00:00")]


@pytest.mark.parametrize(("flags", "reason"), [(1 << 1, "deleted"), (1 << 6, "a draft"), (1 << 24, "spam")])
def test_flags_of_apple_mail(tmp_path, flags, reason):
    (tmp_path / "Sent.mbox" / "Messages").mkdir(parents=True)
    made.write_emlx(tmp_path / "Sent.mbox" / "Messages" / "1.emlx", flags)
    made.write_emlx(tmp_path / "Sent.mbox" / "Messages" / "2.partial.emlx", 1)
    texts, reasons = read(tmp_path)
    assert len(texts) == 1 and reasons == [reason]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("---\nsource: https://x.org/a\n---\nTheirs.", "a clipping that names no author"),
        ("---\ntags:\n  - clippings\n---\nTheirs.", "a clipping that names no author"),
        ("---\nauthor: [Ann, Bob]\n---\nTheirs.", "not written by me"),
        (f"---\nauthor: {ME}\nurl: https://mine.org\n---\nMine.", ""),
        ("---\ntitle: [\n---\nMine.", ""),
        ("---\n&a [*a]\n---\nMine.", ""),
        ("Mine.\n---\nauthor: Ann\n---\n", ""),
    ],
)
def test_front_matter(tmp_path, text, reason):
    (tmp_path / "a.md").write_text(text)
    texts, reasons = read(tmp_path / "a.md")
    assert reasons == [reason] * bool(reason) and len(texts) == (not reason)


def test_pages_of_notion(tmp_path):
    name = "Mill 0123456789abcdef0123456789abcdef.md"
    (tmp_path / name).write_text(
        "# Mill\n\nCreated: March 2, 2026 10:00 AM\nTags: walk\nCreated by: Mara Lindqvist\n\nUp: we go.\n"
    )
    (tmp_path / f"x {name}").write_text("# Clip\n\nURL: https://x.org\n\nTheirs.\n")
    texts, reasons = read(tmp_path)
    assert [(text.text, text.date) for text in texts] == [("# Mill\n\nUp: we go.", "2026-03-02T10:00:00+00:00")]
    assert reasons == ["a clipping that names no author"]


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("<!-- saved from url=(0014)https://x.org -->", "a saved web page that names no author"),
        ("<meta property='og:url' content='https://x.org'>", "a saved web page that names no author"),
        ("<div class='message default clearfix'><div class=\"from_name\">Kim</div></div>", "several people"),
    ],
)
def test_pages_of_others(tmp_path, head, reason):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.html").write_text(f"<html>{head}<p>{THEIRS}</p>")
    texts, reasons = read(tmp_path / "in")
    assert texts == [] and reason in reasons[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Café über 5 €".encode("cp1252"), "Café über 5 €"),
        ("Café".encode("utf-16"), "Café"),
        ("Café".encode("utf-16-be"), "Café"),
        ("naïve l·l «a»".encode("latin-1"), "naïve l·l «a»"),
        ("zażółć gęślą jaźń".encode("cp1250"), None),
        ("Привет, как дела".encode("cp1251"), None),
        (b"\x89PNG\r\n\x1a\n\0\0", None),
        (b"", ""),
    ],
)
def test_encodings(tmp_path, content, expected):
    (tmp_path / "a.txt").write_bytes(content)
    if expected is None:
        with pytest.raises(UserError, match=r"not UTF-8|not a text"):
            Ingest(tmp_path / "a.txt")
    else:
        texts, _ = read(tmp_path / "a.txt")
        assert [text.text for text in texts] == [expected] * bool(expected)


@pytest.mark.parametrize("kind", kinds(["pdf"]))
def test_a_scanned_pdf_and_one_with_a_password(tmp_path, kind):
    (tmp_path / "in").mkdir()
    made.write_pdf(tmp_path / "in" / "a.pdf", lines=())
    texts, reasons = read(tmp_path / "in")
    assert texts == [] and "scanned" in reasons[0]
    from pypdf import PdfWriter

    writer = PdfWriter(made.write_pdf(tmp_path / "in" / "a.pdf"))
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(tmp_path / "in" / "a.pdf")
    assert "password" in read(tmp_path / "in")[1][0]


def test_lines_of_pages_become_paragraphs():
    body = "A long line that goes on and on and is hyphen-\nated here.\nThe next paragraph is as long as it"
    printed = "11/29/26, 4:11 AM The mill\n{}\n\ufb01le:///home/mill.html 1/1"
    text = join_pages([printed.format(f"The mill\n{body} {number}\n{number}") for number in range(3)])
    assert (
        "hyphenated here.\n\nThe next" in text and "The mill" not in text and "\n2" not in text and "home" not in text
    )


def test_dates_and_authors():
    assert read_pdf_date("D:20260302100000+01'00'") == "2026-03-02T10:00:00+00:00"
    assert read_pdf_date("D:2026") == "2026-01-01T00:00:00+00:00"
    assert read_pdf_date("D:20269999") == read_pdf_date(None) == read_any_date("soon") == read_any_date(None) == ""
    assert read_any_date("March 2, 2026") == read_any_date("2026-03-02") == "2026-03-02T00:00:00+00:00"
    assert authors_of(["Ann", "Ann; Bob", None, " "]) == ("Ann; Bob",) and authors_of(["Administrator"]) == ()


@pytest.mark.parametrize(("kind", "library"), LIBRARIES.items())
def test_a_library_that_is_not_installed(tmp_path, monkeypatch, kind, library):
    """Also in a folder of other files: a set that lacks all PDFs without a word would be wrong."""
    (tmp_path / "a.txt").write_text("Mine.")
    (tmp_path / f"b.{kind}").write_bytes(b"x")
    load = builtins.__import__

    def fail(name, *args, **kwargs):
        if name.partition(".")[0] == library:
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(NotInstalled, match=rf"b\.{kind}.*pip install 'revinst\[own\]'"):
        Ingest(tmp_path)


@pytest.mark.parametrize(("suffix", "tool"), [("pst", "readpst"), ("olm", "olm-convert"), ("doc", "soffice")])
def test_what_must_be_converted(tmp_path, suffix, tool):
    (tmp_path / f"a.{suffix}").write_bytes(b"x")
    with pytest.raises(UserError, match=tool):
        Ingest(tmp_path / f"a.{suffix}")
    texts, reasons = read(tmp_path)
    assert texts == [] and tool in reasons[0]


def test_an_unknown_kind_is_answered_with_those_that_are_known(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"x")
    known = r"unknown kind of file \(\.xyz\); known are .*\.msg.*WhatsApp.*Word \(\.docx\)"
    with pytest.raises(UserError, match=known):
        Ingest(tmp_path / "a.xyz")
    assert read(tmp_path) == ([], ["unknown kind of file (.xyz)"])


def test_entities_without_end(tmp_path):
    """A billion laughs: expat ends it, in a part of a ZIP and in a file."""
    lines = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 20}">' for n in range(1, 9))
    bomb = f'<!DOCTYPE d [<!ENTITY e0 "laugh">{lines}]><d xmlns:w="{made.W}"><w:p><w:t>&e8;</w:t></w:p></d>'
    made.write_zip(tmp_path / "a.docx", {"word/document.xml": bomb})
    (tmp_path / "b.enex").write_text(bomb)
    for name in ("a.docx", "b.enex"):
        with pytest.raises(UserError, match="can't be read"):
            Ingest(tmp_path / name)
    secret = tmp_path / "secret.key"
    secret.write_text("private")
    outside = f'<!DOCTYPE d [<!ENTITY e SYSTEM "{secret}">]><d xmlns:w="{made.W}"><w:p><w:t>&e;x</w:t></w:p></d>'
    made.write_zip(tmp_path / "a.docx", {"word/document.xml": outside})
    with pytest.raises(UserError, match="can't be read"):
        Ingest(tmp_path / "a.docx")


def test_depth_and_size_have_an_end(tmp_path, monkeypatch):
    deep = "<d>" * 100_000 + "</d>" * 100_000
    made.write_zip(tmp_path / "a.docx", {"word/document.xml": deep})
    assert read(tmp_path / "a.docx") == ([], ["empty"])
    (tmp_path / "b.html").write_text("<div>" * 20_000 + "Mine." + "</div>" * 20_000)
    (tmp_path / "c.md").write_text(
        "[" * 20_000 + "\n" + "> " * 20_000 + "\n" + "[a](" * 5_000 + "<!--" * 200_000 + "%%"
    )
    Ingest(tmp_path)
    monkeypatch.setattr("revinst.corpus.documents.zipped_xml.MAX_BYTES", 1000)
    with pytest.raises(UserError, match="larger than"):
        Ingest(tmp_path / "a.docx")


@pytest.mark.parametrize("kind", kinds(WRITERS))
def test_damage_is_an_error_in_one_line(tmp_path, kind):
    """Cut and flipped bytes, seeded: texts, or one line; never another exception, and nothing of others."""
    whole = WRITERS[kind](tmp_path / f"a.{kind}").read_bytes()
    dice = random.Random(29)
    for number in range(40):
        content = bytearray(whole)
        if number % 2:
            content = content[: dice.randrange(len(content))]
        for _ in range(dice.choice((1, 3, 30))):
            if content:
                content[dice.randrange(len(content))] = dice.randrange(256)
        path = tmp_path / f"b.{kind}"
        path.write_bytes(content)
        try:
            read(path)
        except UserError as error:
            assert "\n" not in str(error) and str(path) in str(error)
