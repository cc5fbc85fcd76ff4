"""Mailboxes as programs leave them: separators, folders, labels, status headers, and mails forged in my name."""

import subprocess
import sys
import time

import pytest

from revinst.corpus.folders import kind_of_folder, kind_of_label
from revinst.corpus.ingest import Ingest
from revinst.corpus.mail_kind import kind_of_maildir
from revinst.corpus.mbox import split_mbox
from scripts.made_mail import ME, build_mail

OWN = "The ladder is in the shed, behind the green door."
THEIRS = "Private words of Bob."
MINE = build_mail(1, "Garden", OWN).as_bytes()
BOBS = build_mail(2, "Garden", THEIRS, From="Bob <bob@x.org>").as_bytes()

LISTED = (
    "To: {}\nList-Id: Gardens <garden.lists.example.org>\n"
    "Authentication-Results: mx.example.com; dkim=fail; spf={}; dmarc=fail"
)


def read(path):
    ingest = Ingest(path, [ME])
    return [text.text for text in ingest.texts()], [note.reason for note in ingest.not_kept]


@pytest.mark.parametrize(
    "separator",
    [
        b"From ", b"From -", b"From - ", b"From 123@xxx", b"From ???@??? ", b"From mara@example.org",
        b"From nobody",
        b"From mara@example.org 2026-03-02 10:00", b"From - Mon Mar  2 10:00:00 2026", b"From",
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_separators(tmp_path, separator, end):
    """Three mails are three, with or without a suffix that says what the file is."""
    for name in ("box.mbox", "Sent"):
        mails = (MINE, BOBS, build_mail(3, "Garden", "It rains.").as_bytes())
        content = b"\n".join(separator + b"\n" + mail for mail in mails).replace(b"\n", end)
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path / name) == ([OWN, "It rains."], ["not sent by me"])


@pytest.mark.parametrize(
    "prose",
    [
        "We leave.\n\nFrom \nSubject: to change, all of this.",
        "We leave.\n\nFrom - \nhere it is easy.",
        "We leave.\n\nFrom home\nTo: the lake.\nThen back.",
        "We leave.\nFrom \nTo: you\nCc: her",
        "We leave.\n\nFrom Paris\nTo: Rome\nDate: 2 May",
    ],
)
def test_prose_is_no_separator(tmp_path, prose):
    box = tmp_path / "box.mbox"
    box.write_bytes(b"From - \n" + build_mail(1, "Trip", prose).as_bytes())
    assert len(list(split_mbox(box))) == 1
    texts, _ = read(box)
    assert texts == ["\n".join(line.rstrip() for line in prose.split("\n"))]


@pytest.mark.parametrize(
    "header, reason",
    [
        ("X-Gmail-Labels: Spam,Unread", "spam"),
        ("X-Gmail-Labels: =?UTF-8?Q?Sent,Papierkorb?=", "deleted"),
        ("X-Gmail-Labels: Chat", "a chat"),
        ('X-Gmail-Labels: Archived,"Brouillons"', "a draft"),
        ("X-Gmail-Labels: Sent,Spam prevention", ""),
        ("X-Mozilla-Status: 0009", "deleted"),
        ("X-Mozilla-Status: 0001", ""),
        ("X-Mozilla-Draft-Info: internal/draft; vcard=0", "a draft"),
        ("X-Status: AD", "deleted"),
        ("X-Status: T", "a draft"),
        ("X-Unsent: 1", "a draft"),
        ("X-Uniform-Type-Identifier: com.apple.mail-draft", "a draft"),
        ("X-Spam-Flag: YES", "spam"),
        ("X-Spam-Status: No, score=0.1", ""),
        ("X-MS-Exchange-Organization-SCL: 6", "spam"),
        ("Authentication-Results: mx.example.org; spf=pass; dkim=pass; dmarc=pass", ""),
        ("Authentication-Results: mx.example.org; spf=pass; dkim=none; dmarc=fail (p=NONE)", "its sender is forged"),
        ("Authentication-Results: mx.example.org; spf=softfail; dkim=none", "its sender is forged"),
        ("Authentication-Results: mx.example.org; spf=fail; dkim=fail; dkim=pass", ""),
        ("Received-SPF: fail (example.org does not name 203.0.113.9)", "its sender is forged"),
        ("Delivered-To: mara@example.org\nReceived: from bad.example.net (203.0.113.9) by mx.example.com with SMTP",
         "its sender is forged"),
        ("Delivered-To: mara@example.org\nReceived: from [10.0.0.2] (client.net) by smtp.x.org with ESMTPSA id 1", ""),
        (LISTED.format("garden@lists.example.org", "pass"), ""),
        (LISTED.format("mara@example.org", "pass"), "its sender is forged"),
        (LISTED.format("garden@lists.example.org", "fail"), "its sender is forged"),
        ("Received: from laptop.home (client.net) by smtp.x.org with ESMTP", ""),
    ],
)  # fmt: skip
def test_headers_that_say_what_a_mail_is(tmp_path, header, reason):
    path = tmp_path / "a.eml"
    path.write_bytes(header.encode() + b"\n" + MINE)
    (tmp_path / "note.txt").write_text("A note.")
    texts, reasons = read(tmp_path)
    assert (texts, reasons) == ((["A note."], [reason]) if reason else ([OWN, "A note."], []))


@pytest.mark.parametrize(
    "where, kind",
    [
        ("in/Takeout/Mail/Spam.mbox#3", "spam"),
        ("in/Takeout/Mail/Papierkorb.mbox#3", "deleted"),
        ("in/Mail/Local Folders/Unsent Messages#1", "a draft"),
        ("in/Deleted Messages.mbox/mbox#1", "deleted"),
        ("in/.INBOX.Drafts/cur/1.eml", "a draft"),
        ("in/[Gmail].Trash/cur/1", "deleted"),
        ("in/Sent.mbox#1", ""),
        ("in/Spammers of my street.mbox#1", ""),
        ("in/a.eml#Spam", ""),
        ("in/.Entw&APw-rfe/cur/1", "a draft"),
        ("in/.INBOX.&BCEEPwQwBDw-/cur/1", "spam"),
        ("in/Entwu\u0308rfe.mbox#1", "a draft"),
        ("in/.Q&-A/cur/1", ""),
        ("in/.&AP-&8-&====-/cur/1", ""),
        ("in/Удаленная работа.mbox#1", ""),
        ("in/Wiadomości-śmieci.mbox#1", "spam"),
    ],
)
def test_folders(where, kind):
    assert kind_of_folder(where) == kind


@pytest.mark.parametrize(
    "label", ["Кошик", "Lomtár", "Κάδος απορριμμάτων", "אשפה", "Thùng rác", "ถังขยะ", "已删除邮件", "سطل زباله"]
)
def test_labels_of_what_was_deleted(label):
    assert kind_of_label(label) == "deleted" and kind_of_label(f"{label} 2") == ""


@pytest.mark.parametrize(
    "name, kind",
    [
        ("1.h:2,S", ""),
        ("1.h:2,DS", "a draft"),
        ("1.h:2,ST", "deleted"),
        ("1.h;2,T", "deleted"),
        ("1.h", ""),
        ("DT", ""),
    ],
)
def test_flags_of_a_maildir(name, kind):
    assert kind_of_maildir(name) == kind


def test_notes_in_a_folder_of_drafts_are_notes(tmp_path):
    (tmp_path / "Drafts").mkdir()
    (tmp_path / "Drafts" / "poem.txt").write_text("Roses.")
    assert read(tmp_path) == (["Roses."], [])


def big(kind: str) -> bytes:
    """A mail of 20 MB."""
    size = 20_000_000
    head = MINE.partition(b"\n\n")[0]
    plain = b"\nContent-Type: text/plain\n\n"
    bodies = {
        "short lines": plain + b"a\n" * (size // 2),
        "one line": plain + b"a" * size,
        "quotes": plain + b"Mine.\n" + b"> theirs, at some length\n" * (size // 25),
        "headers": b"\n" + b"X-A: b\n" * (size // 7) + b"\nMine.",
        "html": b"\nContent-Type: text/html\n\n" + b"<p><b>a</b>" * (size // 11),
        "attachment": b"\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nMine.\n--b\n"
        b"Content-Type: image/png\nContent-Transfer-Encoding: base64\n\n" + (b"QUJD" * 19 + b"\n") * (size // 77)
        + b"\n--b--\n",
    }  # fmt: skip
    lines = [line for line in head.split(b"\n") if not line.startswith((b"Content-", b"MIME"))]
    return b"MIME-Version: 1.0\n" + b"\n".join(lines) + bodies[kind]


MEASURE = """
import sys
from pathlib import Path
from revinst.corpus.mail import read_mail
from revinst.corpus.mail_text import html_to_text
from revinst.system import peak_bytes
html_to_text("<p>what is imported on the way</p>")
content = Path(sys.argv[1]).read_bytes()
before = peak_bytes()
found = read_mail(content, "mail", frozenset(["{me}"]))
print((peak_bytes() - before) / 1e6, found.text[:9] or found.left_out)
"""


@pytest.mark.wide
@pytest.mark.parametrize("kind", ["short lines", "one line", "quotes", "headers", "html", "attachment"])
def test_a_mail_of_20_mb(tmp_path, kind):
    """It takes seconds and less than 300 MB, and the text of one with an attachment is read."""
    (tmp_path / "mail").write_bytes(big(kind))
    script, start = MEASURE.replace("{me}", ME), time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "mail"], capture_output=True, text=True, check=True)
    grown, _, said = done.stdout.strip().partition(" ")
    print(kind, grown, said, round(time.perf_counter() - start, 1))
    assert float(grown) < 300 and time.perf_counter() - start < 60
    assert said == "Mine." if kind in ("attachment", "quotes") else said
