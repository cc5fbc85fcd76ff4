"""Small documents of each kind, written by hand: mine, with a sentence of somebody else in it where the kind allows."""

import gzip
import io
import plistlib
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

MINE, ALSO_MINE, THEIRS = "We walked up to the old mill.", "Café über alles.", "A sentence of Kim Ode."
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
ME, KIM = "Mara Lindqvist", "Kim Ode"


def write_zip(path: Path, parts: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def write_docx(path: Path, author: str = ME) -> Path:
    core = f"""<cp:coreProperties xmlns:cp="http://x/cp" xmlns:dc="http://purl.org/dc/elements/1.1/"
        xmlns:dcterms="http://purl.org/dc/terms/"><dc:creator>{author}</dc:creator><cp:lastModifiedBy>{author}
        </cp:lastModifiedBy><dcterms:created>2026-03-02T10:00:00Z</dcterms:created></cp:coreProperties>"""
    body = f"""<w:document xmlns:w="{W}" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"><w:body>
        <w:p><w:pPr><w:tabs><w:tab w:pos="1"/></w:tabs></w:pPr><w:r><w:t>We walked </w:t></w:r>
        <w:ins w:author="{author}"><w:r><w:t>up </w:t></w:r></w:ins><w:r><w:t>to the old mill.</w:t></w:r>
        <w:ins w:author="{KIM} II"><w:r><w:t>{THEIRS}</w:t></w:r></w:ins>
        <w:del w:author="{author}"><w:r><w:delText>gone</w:delText><w:t>gone</w:t></w:r></w:del>
        <w:r><w:instrText>HYPERLINK x</w:instrText></w:r></w:p>
        <w:p><w:pPr><w:pStyle w:val="IntenseQuote"/></w:pPr><w:r><w:t>{THEIRS}</w:t></w:r></w:p>
        <w:tbl><w:tr><w:tc><w:p><w:r><w:t>{ALSO_MINE}</w:t></w:r></w:p></w:tc></w:tr></w:tbl></w:body></w:document>"""
    comments = f'<w:comments xmlns:w="{W}"><w:comment><w:p><w:t>{THEIRS}</w:t></w:p></w:comment></w:comments>'
    return write_zip(path, {"word/document.xml": body, "docProps/core.xml": core, "word/comments.xml": comments})


def write_odt(path: Path, author: str = ME) -> Path:
    names = 'xmlns:office="o" xmlns:text="t" xmlns:style="s" xmlns:dc="d" xmlns:meta="m"'
    meta = f"""<office:m {names}><meta:initial-creator>{author}</meta:initial-creator>
        <meta:creation-date>2026-03-02T10:00:00.123456789</meta:creation-date></office:m>"""
    content = f"""<office:c {names}><style:style style:name="P3" style:parent-style-name="Quotations"/>
        <text:tracked-changes><text:changed-region text:id="c1"><text:insertion><dc:creator>{KIM} II</dc:creator>
        </text:insertion></text:changed-region><text:changed-region text:id="c2"><text:deletion>
        <dc:creator>x</dc:creator><text:p>gone</text:p></text:deletion></text:changed-region></text:tracked-changes>
        <text:p>We walked<text:s/>up <text:span>to the</text:span> old mill.<text:change-start text:change-id="c1"/>
        {THEIRS}<text:change-end text:change-id="c1"/><office:annotation><text:p>{THEIRS}</text:p></office:annotation>
        </text:p><text:p text:style-name="P3">{THEIRS}</text:p><text:h>{ALSO_MINE}</text:h></office:c>"""
    return write_zip(
        path, {"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content, "meta.xml": meta}
    )


def write_epub(path: Path, author: str = ME) -> Path:
    container = '<container xmlns="c"><rootfiles><rootfile full-path="OEBPS/a.opf"/></rootfiles></container>'
    package = f"""<package xmlns="o" xmlns:dc="d"><metadata><dc:creator>{author}</dc:creator>
        <dc:date>2026-03-02</dc:date></metadata><manifest>
        <item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
        <item id="a" href="t/one%20a.xhtml" media-type="application/xhtml+xml"/>
        <item id="b" href="two.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="n"/>
        <itemref idref="a"/><itemref idref="b"/><itemref idref="none"/></spine></package>"""
    page = "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><body><p>{}</p></body></html>"
    return write_zip(
        path,
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "OEBPS/a.opf": package,
            "OEBPS/nav.xhtml": page.format("Contents"),
            "OEBPS/t/one a.xhtml": page.format(MINE),
            "OEBPS/two.xhtml": page.format(ALSO_MINE),
        },
    )


def write_html(path: Path, author: str = ME) -> Path:
    path.write_text(
        f"<html><head><meta charset=utf-8><title>Mill</title><meta name=author content='{author}'><meta "
        f"property=article:published_time content=2026-03-02T10:00:00Z></head><body><nav>Home</nav><p>{MINE}</p>"
        f"<blockquote>{THEIRS}</blockquote><p>{ALSO_MINE}</p><script>x</script></body></html>",
        encoding="utf-8",
    )
    return path


def write_rtf(path: Path, author: str = ME) -> Path:
    path.write_bytes(
        b"{\\rtf1\\ansi\\ansicpg1252{\\fonttbl\\f0 Times;}{\\info{\\author %s}{\\creatim\\yr2026\\mo3\\dy2\\hr10}}"
        b"\\f0 We walked up to the old mill.{\\deleted gone}\\par Caf\\'e9 \\u252?ber alles.\\par}" % author.encode()
    )
    return path


def write_pdf(path: Path, author: str = ME, lines: tuple[str, ...] = (MINE, ALSO_MINE)) -> Path:
    text = b" ".join(b"(%s) Tj 0 -40 Td" % line.encode("cp1252") for line in lines)
    stream = b"BT /F1 12 Tf 20 700 Td " + text + b" ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
        b"<</Author(%s)/CreationDate(D:20260302100000Z)>>" % author.encode(),
    ]
    content, starts = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, start=1):
        starts.append(len(content))
        content += b"%d 0 obj%s endobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % start for start in starts)
    end = b"xref\n0 7\n0000000000 65535 f \n%strailer<</Size 7/Root 1 0 R/Info 6 0 R>>\nstartxref\n%d\n%%%%EOF"
    path.write_bytes(content + end % (table, len(content)))
    return path


def write_enex(path: Path, author: str = ME) -> Path:
    def note(text: str, about: str) -> str:
        return f"""<note><title>T</title><content><![CDATA[<?xml version="1.0"?><!DOCTYPE en-note SYSTEM "x">
            <en-note><div>{text}</div></en-note>]]></content><created>20260302T100000Z</created>
            <note-attributes>{about}</note-attributes><resource><data>AAAA</data></resource></note>"""

    mine, theirs = f"<author>{author}</author>", "<source>web.clip7</source><source-url>https://x.org</source-url>"
    notes = note(MINE, mine) + note(THEIRS, theirs) + note(ALSO_MINE, "") + note(THEIRS, f"<author>{KIM} II</author>")
    path.write_text(f"<?xml version='1.0'?><!DOCTYPE en-export SYSTEM 'x'><en-export>{notes}</en-export>", "utf-8")
    return path


def write_wordpress(path: Path, author: str = ME) -> Path:
    def item(text: str, status: str = "publish", kind: str = "post", by: str = "mara", comments: str = "") -> str:
        return f"""<item><title>T</title><dc:creator><![CDATA[{by}]]></dc:creator><content:encoded><![CDATA[{text}]]>
            </content:encoded><excerpt:encoded><![CDATA[]]></excerpt:encoded><wp:post_date_gmt>2026-03-02 10:00:00
            </wp:post_date_gmt><wp:status>{status}</wp:status><wp:post_type>{kind}</wp:post_type>{comments}</item>"""

    def comment(by: str, text: str) -> str:
        return f"""<wp:comment><wp:comment_author>{by}</wp:comment_author><wp:comment_approved>1</wp:comment_approved>
            <wp:comment_content>{text}</wp:comment_content></wp:comment>"""

    names = "wordpress.org/export/1.2/"
    items = (
        item(f"<!-- wp:paragraph --><p>{MINE}</p>[gallery ids=1]<blockquote>{THEIRS}</blockquote>",
             comments=comment(KIM, THEIRS) + comment(author, ALSO_MINE))
        + item(THEIRS, by="kim") + item("A draft.", status="draft") + item("a.jpg", status="inherit", kind="attachment")
    )  # fmt: skip
    path.write_text(
        f"""<?xml version="1.0" encoding="UTF-8"?><rss xmlns:wp="http://{names}" xmlns:content="http://c/content/"
        xmlns:excerpt="http://{names}excerpt/" xmlns:dc="http://d/"><channel><wp:author><wp:author_login>mara
        </wp:author_login><wp:author_email>m@x.org</wp:author_email><wp:author_display_name>{author}
        </wp:author_display_name></wp:author>{items}</channel></rss>""",
        encoding="utf-8",
    )
    return path


def write_substack(path: Path) -> Path:
    rows = "post_id,post_date,is_published\n1.mill,2026-03-02T10:00:00.000Z,true\n2.b,,false\n3.c,,true\n"
    page = "<p>{}</p><blockquote><p>" + THEIRS + "</p></blockquote><p>{}</p>"
    return write_zip(
        path,
        {
            "posts.csv": rows,
            "posts/1.mill.html": page.format(MINE, ALSO_MINE),
            "posts/2.b.html": page.format("A draft", ""),
            "email_list.x.csv": "email\nkim@example.org\n",
        },
    )


def write_markdown(path: Path, author: str = ME) -> Path:
    path.write_text(
        f"---\ndate: 2026-03-02\ntags: [walk]\nauthor: '[[{author}]]'\n---\n{MINE}\n\n> {THEIRS}\n\n> [!note]\n> "
        f"[Café](https://x.org) [[Page|über]] alles.\n\nstatus:: done\n",
        encoding="utf-8",
    )
    return path


def build_eml(sender: str = "mara@example.org") -> bytes:
    return (
        f"From: {ME} <{sender}>\nTo: kim@example.org\nSubject: The mill\nDate: Mon, 2 Mar 2026 10:00:00 +0000\n"
        f"Content-Type: text/plain; charset=utf-8\n\n{MINE}\n\n{ALSO_MINE}\n\n"
        f"On 1 Mar 2026 Kim Ode <k@example.org> wrote:\n> {THEIRS}\n"
    ).encode()


def write_emlx(path: Path, flags: int = 1) -> Path:
    mail = build_eml()
    path.write_bytes(b"%-10d\n" % len(mail) + mail + plistlib.dumps({"flags": flags}))
    return path


def write_tar(path: Path, parts: Mapping[str, bytes]) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(buffer.getvalue()))
    return path


def write_msg(path: Path, properties: Mapping[int, str], flags: int = 0) -> Path:
    """A compound file (MS-CFB, version 3) with Unicode properties by their ids."""
    streams = {f"__substg1.0_{number:04X}001F": text.encode("utf-16-le") for number, text in properties.items()}
    table = b"".join(
        struct.pack("<HHIII", 0x001F, number, 6, len(text.encode("utf-16-le")) + 2, 0)
        for number, text in properties.items()
    )
    table += struct.pack("<HHIII", 0x0003, 0x0E07, 6, flags, 0)
    table += struct.pack("<HHIQ", 0x0040, 0x0039, 6, 134_168_000_000_000_000)
    streams["__properties_version1.0"] = bytes(32) + table
    path.write_bytes(build_compound(streams))
    return path


def build_compound(streams: Mapping[str, bytes]) -> bytes:
    """Streams of less than 4 KiB, which lie in sectors of 64 bytes of one stream, the root's."""
    end, free = 0xFFFFFFFE, 0xFFFFFFFF
    names = sorted(streams, key=lambda name: (len(name), name.upper()))
    short, short_chains, starts = b"", [], {}
    for name in names:
        count = max(1, -(-len(streams[name]) // 64))
        starts[name] = len(short_chains)
        short_chains += [*range(len(short_chains) + 1, len(short_chains) + count), end]
        short += streams[name].ljust(count * 64, b"\0")

    def entry(name: str, kind: int, right: int, child: int, start: int, size: int) -> bytes:
        code = (name + "\0").encode("utf-16-le") if name else b""
        head = code.ljust(64, b"\0") + struct.pack("<HBBIII", len(code), kind, 1, free, right, child)
        return head + bytes(36) + struct.pack("<IQ", start, size)

    chains, sectors, first = [], b"", {}

    def place(name: str, content: bytes, filler: bytes = b"\0") -> None:
        nonlocal sectors
        count = -(-len(content) // 512)
        first[name] = len(chains)
        chains.extend([*range(len(chains) + 1, len(chains) + count), end])
        sectors += content.ljust(count * 512, filler)

    place("short", short)
    place("short chains", struct.pack(f"<{len(short_chains)}I", *short_chains), b"\xff")
    entries = entry("Root Entry", 5, free, 1, first["short"], len(short))
    for number, name in enumerate(names, start=1):
        right = number + 1 if number < len(names) else free
        entries += entry(name, 2, right, free, starts[name], len(streams[name]))
    place("entries", entries + entry("", 0, free, free, 0, 0) * (-(len(names) + 1) % 4))
    place_of_chains = len(chains)
    fat = struct.pack(f"<{len(chains) + 1}I", *chains, 0xFFFFFFFD).ljust(512, b"\xff")
    header = bytes.fromhex("D0CF11E0A1B11AE1") + bytes(16) + struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    num_short = -(-len(short_chains) // 128)
    header += struct.pack(
        "<IIIIIIIIII", 0, 1, first["entries"], 0, 4096, first["short chains"], num_short, end, 0, place_of_chains
    )
    return header.ljust(512, b"\xff") + sectors + fat
