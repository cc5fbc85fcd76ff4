# ruff: noqa: RUF001  (mails as they are)
"""Every trap of a mailbox, every kind of input, and counts that add up."""

import json
import mailbox
import os
import re
import zipfile
from base64 import b64encode
from email import message_from_bytes

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from revinst.corpus.ingest import Ingest
from revinst.corpus.mail import read_mail
from revinst.corpus.mail_text import join_flowed
from revinst.corpus.quotes import strip_quotes
from revinst.errors import UserError
from scripts.made_mail import ME, build_mail, build_mails, write_mbox
from tests.cpu_time import seconds

MAILS = build_mails()
TRAPS = [mail for mail in MAILS if mail.trap]


@pytest.mark.parametrize("mail", TRAPS, ids=lambda mail: mail.trap)
def test_trap(mail):
    found = read_mail(mail.content, "mail", frozenset([ME]))
    assert (found.text or None) == mail.text
    assert found.text or found.left_out or found.author != (ME,)


def test_mailbox_adds_up(tmp_path):
    write_mbox(tmp_path / "mail.mbox")
    ingest = Ingest(tmp_path / "mail.mbox", [ME.upper()])
    texts = list(ingest.texts())
    assert ingest.num_read == 60 == len(texts) + len(ingest.not_kept) and len(ingest.not_kept) == 5
    assert [text.text for text in texts] == [mail.text for mail in MAILS if mail.text is not None]
    assert {note.where for note in ingest.not_kept}.isdisjoint(text.where for text in texts)
    train = [text.group for text in texts if "train" in text.text and "early" in text.text]
    assert len(train) == 2 and len(set(train)) == 1, "the reply and what it answers are one thread"
    assert len({text.group for text in texts}) == 54 and len({text.id for text in texts}) == 55
    assert all(text.date.startswith("2026-") and text.date.endswith("+00:00") for text in texts)
    assert list(ingest.texts()) == texts


def test_maildir_and_folder_of_eml_give_the_same(tmp_path):
    write_mbox(tmp_path / "mail.mbox")
    expected = sorted(text.text for text in Ingest(tmp_path / "mail.mbox", [ME]).texts())
    maildir = mailbox.Maildir(tmp_path / "maildir")
    (tmp_path / "eml").mkdir()
    for number, mail in enumerate(MAILS):
        maildir.add(message_from_bytes(mail.content))
        (tmp_path / "eml" / f"{number:02}.eml").write_bytes(mail.content.replace(b"\n", b"\r\n"))
    for name in ("maildir", "eml"):
        ingest = Ingest(tmp_path / name, [ME])
        assert sorted(text.text for text in ingest.texts()) == expected
        assert ingest.num_read == 60


def test_threads_need_no_order(tmp_path):
    """A reply read first, one that knows its subject alone, and one whose link lies in somebody else's mail."""
    question = build_mail(1, "Roof of the shed", "Shall we mend it in May?", Message_ID="<a@x>")
    theirs = build_mail(2, "Re: Roof of the shed", "Yes.", From="o@x.org", Message_ID="<b@x>", In_Reply_To="<a@x>")
    deeper = build_mail(3, "Good", "I order the wood then.", Message_ID="<c@x>", In_Reply_To="<b@x>")
    bare = build_mail(4, "AW: roof of  the shed", "The wood has come.", Message_ID="<d@x>")
    other = build_mail(5, "Good", "Another matter altogether.", Message_ID="<e@x>")
    for number, mail in enumerate([bare, deeper, theirs, question, other]):
        (tmp_path / f"{number}.eml").write_bytes(mail.as_bytes())
    groups = [text.group for text in Ingest(tmp_path, [ME]).texts()]
    assert len(groups) == 4 and len(set(groups[:3])) == 1 and groups[3] != groups[0]


def test_copies_and_quoted_from_lines(tmp_path):
    """The same mail in two folders counts once; `From ` inside a text does not start a message."""
    body = "From here on it is easy.\n\nFrom what I hear it was the wind."
    mail = build_mail(1, "About the wind", body).as_bytes().replace(b"\nFrom here", b"\n>From here")
    start = b"From mara@example.org Mon Jan  5 08:30:00 2026\n"
    (tmp_path / "Sent").write_bytes(start + mail + b"\n" + start + mail + b"\n")
    ingest = Ingest(tmp_path / "Sent", [ME])
    assert [text.text for text in ingest.texts()] == [body]
    assert [note.reason for note in ingest.not_kept] == ["a copy of a mail that was read before"]


def test_tables_notes_tweets_and_zip(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"text": "One."}\n{"text": ""}\n{"body": "x"}\nnot json\n')
    (folder / "b.csv").write_text("text,date\nTwo.,2026-01-02\n")
    (folder / "c.txt").write_text("Three.\n")
    (folder / "d.md").write_bytes(b"\xff\xfe\x00")
    (folder / "e.png").write_bytes(b"png")
    tweets = [
        {
            "id_str": "1",
            "full_text": "Four &amp; five. https://t.co/abc",
            "created_at": "Mon Mar 02 10:00:00 +0000 2026",
        },
        {"id_str": "2", "full_text": "@someone Six.", "in_reply_to_status_id_str": "1"},
        {"id_str": "3", "full_text": "RT @someone: Seven."},
    ]
    rows = json.dumps([{"tweet": tweet} for tweet in tweets])
    (folder / "tweets.js").write_text(f"window.YTD.tweets.part0 = {rows}")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
        archive.writestr("../escape.txt", "Eight.")
        archive.writestr("inner.zip", b"")
    ingest = Ingest(folder)
    texts = list(ingest.texts())
    assert [text.text for text in texts] == ["One.", "Two.", "Three.", "Four & five.", "Six."]
    assert [text.date[:10] for text in texts] == ["", "2026-01-02", "", "2026-03-02", ""]
    assert texts[3].group == texts[4].group != texts[2].group
    assert ingest.num_read == 11 and len(ingest.not_kept) == 6 and all(note.reason for note in ingest.not_kept)
    assert all(note.where.startswith("in/") for note in ingest.not_kept)
    zipped = Ingest(tmp_path / "in.zip")
    assert {text.text for text in zipped.texts()} == {text.text for text in texts} | {"Eight."}
    assert zipped.num_read == 13 and not (tmp_path / "escape.txt").exists()


def test_every_kind_of_table_gives_the_same(tmp_path):
    rows = [{"body": "Three hills and a river.", "group": "hike"}, {"body": "And a bridge.", "group": "hike"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "t.csv").write_text("body,group\n" + "".join(f"{row['body']},hike\n" for row in rows))
    for suffix in ("parquet", "json", "jsonl", "csv"):
        texts = list(Ingest(tmp_path / f"t.{suffix}", column="body").texts())
        assert [text.text for text in texts] == [row["body"] for row in rows], suffix
        assert texts[0].group == texts[1].group


def test_what_no_record_can_hold(tmp_path):
    """NUL bytes in a mail and a file name that is no UTF-8 are counted and named, and nothing breaks."""
    (tmp_path / "a.eml").write_bytes(build_mail(1, "Zero", "A text.").as_bytes().replace(b"A text", b"A \0 text"))
    (tmp_path / os.fsdecode(b"b\xff.txt")).write_text("Fine.")
    ingest = Ingest(tmp_path, [ME])
    assert [text.text for text in ingest.texts()] == ["Fine."] and "NUL" in ingest.not_kept[0].reason
    assert next(ingest.texts()).where.encode()


def test_long_mails_take_no_longer_than_their_lines():
    """5 MB in 25,000 lines: a copy of the rest at each line would take minutes."""
    body = "\n".join(f"Line {number} " + "of a long letter " * 12 for number in range(25_000))
    quote = "\n\nOn Mon, 2 Feb 2026 Ann <ann@example.net> wrote:\n> old"

    def work() -> None:
        assert strip_quotes(body + quote) == body.replace(" \n", "\n").strip()

    assert len(body) > 5_000_000 and seconds(work) < 20


def test_odd_structures(tmp_path):
    """3,000 multiparts in each other, names that no file can have, suffixes in capitals: counted or named, no crash."""
    head = build_mail(1, "Deep", "x").as_bytes().split(b"Content-")[0]
    parts = "".join(f"Content-Type: multipart/mixed; boundary=b{k}\n\n--b{k}\n" for k in range(3000))
    found = read_mail(head + parts.encode() + b"Content-Type: text/plain\n\nhi", "mail", frozenset([ME]))
    assert "can't be read" in found.left_out
    with zipfile.ZipFile(tmp_path / "long.zip", "w") as archive:
        archive.writestr("x" * 300 + ".txt", "long")
    with pytest.raises(UserError, match="not a ZIP"):
        Ingest(tmp_path / "long.zip")
    (tmp_path / "A.EML").write_bytes(build_mail(1, "Hello", "Capitals.").as_bytes())
    assert [text.text for text in Ingest(tmp_path / "A.EML", [ME]).texts()] == ["Capitals."]


def test_users_mistakes(tmp_path):
    write_mbox(tmp_path / "mail.mbox")
    with pytest.raises(UserError, match="--me"):
        Ingest(tmp_path / "mail.mbox")
    with pytest.raises(UserError, match="no such file"):
        Ingest(tmp_path / "nowhere")
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match="not a ZIP"):
        Ingest(tmp_path / "bad.zip")


@pytest.mark.parametrize("sender", [f'"{ME}" <t@x.org>', f"{ME} <t@x.org>", f'"<{ME}>" <t@x.org>', "", "=?x?q?y?="])
def test_sender_is_the_parsed_address(sender):
    found = read_mail(build_mail(1, "Hello", "Hello there.").as_bytes().replace(
        f"Mara Lindqvist <{ME}>".encode(), sender.encode()), "mail", frozenset([ME]))  # fmt: skip
    assert ME not in found.author and not found.text


@pytest.mark.parametrize(
    ("subject", "headers"),
    [
        ("Budget", {"Auto-Submitted": "auto-generated"}),
        ("Budget", {"X-Autoreply": "yes"}),
        ("Budget", {"Precedence": "auto_reply"}),
        ("AW: Abwesenheitsnotiz: Budget", {}),
        ("Out of office Re: Budget", {}),
        ("Réponse automatique : budget", {}),
    ],
)
def test_automatic_replies(subject, headers):
    mail = build_mail(1, subject, "I am out until Monday.")
    for name, value in headers.items():
        mail[name] = value
    found = read_mail(mail.as_bytes(), "mail", frozenset([ME]))
    assert (found.text, found.left_out) == ("", "an automatic reply")
    mail = build_mail(1, "Out and about", "I am out until Monday.")
    mail["Auto-Submitted"] = "no"
    assert read_mail(mail.as_bytes(), "mail", frozenset([ME])).text


def test_flowed_lines():
    assert join_flowed("a long \nline\n> quoted \n> too\n-- \nme") == "a long line\n> quoted too\n-- \nme"
    assert join_flowed("rind \nfleisch", delete_space=True) == "rindfleisch"


def test_alternatives_inside_a_mail_with_attachments():
    """multipart/mixed around multipart/alternative around multipart/related, as most programs nest them."""
    own = "The plain one is what I wrote, here with a picture."
    mail = build_mail(1, "A picture", own)
    mail.add_alternative(f"<p>{own}</p><img src='cid:p'>", subtype="html")
    mail.get_payload()[1].add_related(b"png", "image", "png", cid="<p>")
    mail.add_attachment("not mine", filename="notes.txt")
    assert mail.get_content_type() == "multipart/mixed"
    assert read_mail(mail.as_bytes(), "mail", frozenset([ME])).text == own


MARK = "---------- Forwarded message ---------"
FORWARDED = f"<div class=gmail_quote><div class=gmail_attr>{MARK}<br>From: B</div><p>B's</p></div>"
OUTLOOK = "<div id=divRplyFwdMsg><b>Από:</b> B<br><b>Θέμα:</b> x</div><p>B's</p><p>more of B's</p>"


@pytest.mark.parametrize(
    ("html", "own"),
    [
        (f"<div>Have a look.</div>{FORWARDED}", "Have a look."),
        (f"<div>Have a look.</div><hr>{OUTLOOK}", "Have a look."),
        ("<p>Mine.</p><div class=moz-forward-container>-------- Forwarded Message --------<p>B's</p></div>", "Mine."),
        ("<blockquote>B's alone</blockquote>", None),
        ("<div class=yahoo_quoted>B's alone</div>", None),
        (
            "<div class=gmail_attr>On Mon, 2 Mar 2026 at 9:14 B &lt;b@x.org&gt; wrote:</div>"
            "<blockquote>One?</blockquote><p>Yes.</p><blockquote>Two?</blockquote><p>No.</p>",
            "Yes.\n\nNo.",
        ),
        (
            '<p>It goes</p><blockquote style="margin:0 0 0 40px;border:none">my lines</blockquote>',
            "It goes\n\nmy lines",
        ),
    ],
)
def test_quotes_in_html(html, own):
    mail = build_mail(1, "Hello", "x")
    mail.set_content(html, subtype="html")
    found = read_mail(mail.as_bytes(), "mail", frozenset([ME]))
    assert (found.text or None) == own


@pytest.mark.parametrize(
    ("named", "encoding", "text"),
    [
        ("latin1", "cp1252", "“Smart” – €5"),
        ("iso8859-1", "cp1252", "“Smart” – €5"),
        ("windows-1252", "utf-8", "Größe"),
        ("latin1", "utf-8", "Größe"),
        ("gb2312", "gb18030", "镕 was outside gb2312"),
        ("shift_jis", "cp932", "①"),
        ("ks_c_5601-1987", "cp949", "똠방각하"),
        ("iso-8859-8-i", "iso-8859-8", "שלום"),
        ("windows-874", "cp874", "สวัสดี"),
        ("no-such-charset", "utf-8", "Größe"),
    ],
)
def test_charsets_mean_what_programs_write(named, encoding, text):
    head = build_mail(1, "Hello", "x").as_bytes().split(b"Content-")[0]
    content = head + f"Content-Type: text/plain; charset={named}\n\n".encode() + text.encode(encoding)
    assert read_mail(content, "mail", frozenset([ME])).text == text


def test_pgp():
    assert strip_quotes("-----BEGIN PGP MESSAGE-----\n\nhQEM\n=x\n-----END PGP MESSAGE-----\n") == ""
    signed = (
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nMine.\n- -- a rule\n-----BEGIN PGP SIGNATURE-----\n\niQ\n"
    )
    assert strip_quotes(signed + "-----END PGP SIGNATURE-----\n") == "Mine.\n-- a rule"


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("=?utf-8?Q?Sch=C3=A4fer=2C_J=C3=B6rg?= <j@x.org>", {"Schäfer,", "Jörg"}),
        ("Märta Öberg <m@x.org>", {"Märta", "Öberg"}),
        ("Adams, Tom <t@x.org>; Lund, Eva <e@x.org>", {"Adams,", "Tom", "Lund,", "Eva"}),
        ('"Stone, Bob" <b@x.org> (the plumber)', {"Stone,", "Bob", "plumber"}),
    ],
)
def test_names_however_a_header_has_them(header, names):
    content = build_mail(1, "Hello", "Hi.").as_bytes()
    content = re.sub(rb"^To: .*$", b"To: " + header.encode(), content, flags=re.MULTILINE)
    found = read_mail(content, "mail", frozenset([ME]))
    words = set(" ".join(found.names).replace('"', "").replace("(", "").replace(")", "").replace(";", "").split())
    assert names <= words and not any("@" in word for word in words)


ENCODED = f"=?utf-8?B?{b64encode(f'Mara <{ME}>'.encode()).decode()}?="
SENDERS = [f"Ann <ann@x.org>, Mara <{ME}>", f"Mara <{ME}>, Ann <ann@x.org>", f'"Lindqvist, Mara" <{ME}>', ENCODED]


@pytest.mark.parametrize("sender", [*SENDERS, ME.upper(), f"{ME} (Mara)"])
def test_senders_that_are_me(sender):
    content = build_mail(1, "Hello", "Hi.").as_bytes().replace(f"Mara Lindqvist <{ME}>".encode(), sender.encode())
    assert read_mail(content, "mail", frozenset([ME])).text


def test_automatic_reply_and_draft_by_raw_headers():
    mail = build_mail(1, "Hello", "I am away.").as_bytes()
    automatic = mail.replace(b"Subject: Hello", "Subject: Réponse automatique : x".encode())
    draft = mail.replace(b"Subject:", b"X-Gmail-Labels: Important,Drafts\nSubject:")
    reasons = [read_mail(content, "mail", frozenset([ME])).left_out for content in (automatic, draft)]
    assert reasons == ["an automatic reply", "a draft"]


def test_damaged_mails_are_counted_and_raise_nothing():
    """Every mail cut off at many places, and with bytes flipped."""
    kinds = set()
    for mail in MAILS[-22:]:
        for cut in range(0, len(mail.content), 37):
            for content in (mail.content[:cut], mail.content[:cut] + b"\xff\x00\x80" + mail.content[cut + 3 :]):
                kinds.add(bool(read_mail(content, "mail", frozenset([ME])).text))
    assert kinds == {True, False}


@pytest.mark.parametrize(
    "introduction",
    [
        "On Tue, Feb 3, 2026 at 9:14 AM Ann Example <ann@example.net> wrote:",
        "El mar, 3 feb 2026 a las 9:14, Ann (<ann@example.net>) escribió:",
        "Il giorno mar 3 feb 2026 alle ore 09:14 Ann <ann@example.net> ha scritto:",
        "Em ter., 3 de fev. de 2026 às 09:14, Ann <ann@example.net> escreveu:",
        "Op di 3 feb 2026 om 09:14 schreef Ann <ann@example.net>:",
        "Den tis 3 feb. 2026 kl 09:14 skrev Ann <ann@example.net>:",
        "W dniu 3.02.2026 o 09:14, Ann pisze:",
        "ti 3. helmik. 2026 klo 9.14 Ann (ann@example.net) kirjoitti:",
        "вт, 3 февр. 2026 г. в 09:14, Ann <ann@example.net>:",
        "2026年2月3日(火) 9:14 Ann <ann@example.net>:",
        "Ann <ann@example.net> schrieb am Di., 3. Feb. 2026, 09:14:",
        "2026-02-03 9:14 GMT+01:00 Ann <ann@example.net>:",
        "3 Şub 2026 Sal 09:14 tarihinde Ann <ann@example.net> şunu yazdı:",
        "2026년 2월 3일 (화) 오전 9:14, Ann <ann@example.net>님이 작성:",
        "Ann <ann@example.net> ezt írta (időpont: 2026. febr. 3., K, 9:14):",
        "În mar., 3 feb. 2026 la 09:14, Ann <ann@example.net> a scris:",
        "pon., 2 mar 2026 o 09:14 Ann <ann@example.net> napisał(a):",
        "Στις Δευ 2 Μαρ 2026 στις 9:14 π.μ., ο χρήστης Ann <ann@example.net> έγραψε:",
        "pon, 2. ožu 2026. u 09:14 Ann <ann@example.net> napisao je:",
        "po 2. 3. 2026 o 9:14 Ann <ann@example.net> napísal(a):",
        "Vào Th 2, 2 thg 3, 2026 vào lúc 09:14 Ann <ann@example.net> đã viết:",
        "Missatge de Ann <ann@example.net> del dia dl., 2 de març 2026 a les 9:14 va escriure:",
        "\u202bב-2 במרץ 2026 בשעה 9:14, \u200fAnn <ann@example.net> כתב/ה:\u200f\u202c",
        "Ann <ann@example.net> 於 2026年3月2日 週一 上午9:14寫道：",
        "Gesendet: Montag, 2. März 2026 um 09:14 Uhr\nVon: Ann <ann@example.net>\nAn: Mara\nBetreff: x",
        "Lähettäjä: Ann\nLähetetty: tiistai 3. helmikuuta 2026\nVastaanottaja: Mara\nAihe: x",
        "От: Ann\nОтправлено: 3 февраля 2026 г.\nКому: Mara\nТема: x",
    ],
)
@pytest.mark.parametrize("mark", ["> ", ""])
def test_introductions_of_quotes(introduction, mark):
    assert strip_quotes(f"My answer.\n\n{introduction}\n\n{mark}What they wrote.") == "My answer."


@pytest.mark.parametrize(
    "introduction",
    ["Ann Example wrote:", "Ann <ann@example.net> writes:", "Zitat von Ann <ann@example.net>:", "Quoting Ann:"],
)
def test_an_introduction_without_a_date_goes_with_its_quote(introduction):
    assert strip_quotes(f"Before.\n\n{introduction}\n\n> What they wrote.\n\nBelow.") == "Before.\n\nBelow."
    assert strip_quotes(f"Before.\n\n{introduction}\nmy words") == f"Before.\n\n{introduction}\nmy words"


@pytest.mark.parametrize(
    "mark",
    [
        "---------- Forwarded message ---------",
        "-----Original Message-----",
        "-------- Weitergeleitete Nachricht --------",
        "---------- Message transféré ---------",
        "---------- Mensaje reenviado ---------",
        "Begin forwarded message:",
        "Anfang der weitergeleiteten Nachricht:",
        "From: Ann\nSent: Tuesday\nTo: Mara\nSubject: x",
        "Von: Ann\nGesendet: Dienstag\nAn: Mara\nBetreff: x",
        "De : Ann\nEnvoyé : mardi\nÀ : Mara\nObjet : x",
        "De: Ann\nEnviado: martes\nPara: Mara\nAsunto: x",
        "________________________________\n*From:* Ann\n*Sent:* Tuesday\n*To:* Mara",
        "-- ",
        "Sent from my iPhone",
        "Von meinem iPhone gesendet",
        "Envoyé depuis mon Android",
        "Get Outlook for iOS",
        "Von meinem Samsung Galaxy Smartphone gesendet.",
        "Outlook für iOS beziehen",
        "Holen Sie sich Outlook für Android",
        "Télécharger Outlook pour iOS",
        "Envoyé à partir de Outlook pour Android",
        "Enviado desde Correo para Windows",
        "Inviato dal mio dispositivo Samsung",
        "Inviato da Posta per Windows",
        "Sent with Proton Mail secure email.",
        "Sent via BlackBerry",
        "Sent from Samsung Mobile",
        "Disclaimer: this mail is for its recipient alone.",
        "This e-mail and its attachments are confidential and intended for the addressee.",
        "Tel. +49 30 5550 9876\nwww.example.org",
    ],
)
def test_what_ends_the_own_text(mark):
    assert strip_quotes(f"My comment.\n\n{mark}") == "My comment."
    if "Tel." not in mark:
        assert strip_quotes(f"My comment.\n\n{mark}\n\nWhat they wrote.") == "My comment."


@pytest.mark.parametrize(
    "text",
    [
        "On Monday I wrote:\nnothing at all.",
        "From the start it was clear.\nTo be honest, I liked it.",
        "I have two points:\n- one\n- two",
        "Date of birth: 3 May\nPlace: the sea",
        "Am Anfang war es schwer, aber er schrieb:",
        "Disclaimer: I am not a lawyer.\n\nStill, clause four is unfair.",
        "Hallo Bob,\n\nGesendet mit DHL am Montag, das Paket kommt morgen.\nBitte sag Bescheid.",
        "Agenda:\n\n--\n\n1. Budget\n2. Hiring",
        "--\n" + "\n\n".join(f"Paragraph {n}." for n in range(20)),
        "Which one do you prefer?\nhttps://flats.example/1\nhttps://flats.example/2",
        "Here are the numbers you asked for:\nBob: +49 170 5550 1234\nAnn: +49 170 5550 9999",
        "On Friday at 10 Bob told us what the council wrote:\nthe bridge stays closed.\n\nWe should complain.",
        "For the 2 rooms please write to Ann <ann@example.net>:\n\nShe has the keys.",
    ],
)
def test_own_prose_stays(text):
    assert strip_quotes(text) == text


START = b"From mara@example.org Mon Jan  5 08:30:00 2026\n"


def test_mailboxes_as_programs_write_them(tmp_path):
    """No blank line between two mails, a body line like a separator, a BOM, another's text before the first mail."""
    mine = build_mail(1, "One", "My own text.").as_bytes()
    theirs = build_mail(2, "Two", "Private.", From="Bob <bob@x.org>").as_bytes()
    prose = build_mail(3, "Three", "We leave.\n\nFrom Berlin we take the train in 2026, at 10.").as_bytes()
    takeout = b"From 17@xxx Mon Mar 02 11:00:00 +0000 2026\n"
    box = tmp_path / "Sent.mbox"
    box.write_bytes(b"\xef\xbb\xbf" + START + mine + takeout + theirs + START + prose)
    ingest = Ingest(box, [ME])
    bodies = ["My own text.", "We leave.\n\nFrom Berlin we take the train in 2026, at 10."]
    assert [text.text for text in ingest.texts()] == bodies
    assert [note.reason for note in ingest.not_kept] == ["not sent by me"] and ingest.num_read == 3
    box.write_bytes(b"a torn mail\n" + START + mine + START)
    ingest = Ingest(box, [ME])
    assert ingest.num_read == 3 and len(ingest.not_kept) == 2, "what stands before the first, and an empty one"


def test_one_bad_file_leaves_the_others(tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "A.TXT").write_text("Good.")
    (folder / "B.JSONL").write_text('{"text": "Good too."}\n')
    (folder / "settings.json").write_text('{"theme": "dark"}')
    (folder / "c.csv").write_bytes("text\nGröße\n".encode("cp1252"))
    (folder / "d.zip").write_bytes(b"no zip")
    (folder / "nowhere").symlink_to(tmp_path / "gone")
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "Divorce papers of Bob Stone").write_text("x")
    ingest = Ingest(folder)
    assert [text.text for text in ingest.texts()] == ["Good.", "Good too."]
    reasons = {note.where: note.reason for note in ingest.not_kept}
    assert len(reasons) == 6 and ingest.num_read == 8
    assert reasons["in/Divorce papers of Bob Stone"] == "unknown kind of file"
    assert "one list of rows" in reasons["in/settings.json"] and "link" in reasons["in/sub/loop"]
    assert not any(str(tmp_path) in reason or "Bob" in reason for reason in reasons.values())
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("A.txt", "Good.")
        archive.writestr("In.ZIP", b"")
        archive.writestr("bad.json", "{}")
    ingest = Ingest(tmp_path / "t.zip")
    assert ingest.num_read == 3 and not any("/tmp" in note.reason for note in ingest.not_kept)


def test_group_zero_is_a_group(tmp_path):
    (tmp_path / "t.jsonl").write_text(
        "".join(json.dumps({"text": f"Text {n}.", "group": n % 2}) + "\n" for n in range(6))
    )
    assert len({text.group for text in Ingest(tmp_path / "t.jsonl").texts()}) == 2


def test_maildir_drafts_and_the_archives_own_note(tmp_path):
    for part in ("cur", "new"):
        (tmp_path / "box" / part).mkdir(parents=True)
    content = build_mail(1, "One", "Mine.").as_bytes()
    (tmp_path / "box" / "cur" / "1:2,DS").write_bytes(content)
    (tmp_path / "box" / "cur" / "2.D:2,S").write_bytes(content)
    ingest = Ingest(tmp_path / "box", [ME])
    assert [note.reason for note in ingest.not_kept] == ["a draft"] and len(list(ingest.texts())) == 1
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.txt").write_text("This is your archive.")
    (tmp_path / "data" / "tweets.js").write_text(
        'window.YTD.tweets.part0 = [{"tweet": {"id_str": "1", "full_text": "Hi."}}]'
    )
    assert [text.text for text in Ingest(tmp_path / "data").texts()] == ["Hi."]
