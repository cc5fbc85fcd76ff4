# ruff: noqa: E501, RUF001  (mails as they are)
"""Quotes are told by structure, in any language; and prose that looks a little like them is kept."""

import pytest

from revinst.corpus.mail_text import html_to_text
from revinst.corpus.quotes import strip_quotes

OWN = "Thank you, that suits me. I will bring the two ladders."
THEIRS = "My knee hurts and the doctor told me to rest."
PEOPLE = ("Kim Ode", "Alex Moreau")
BLOCKS = {
    "unknown language": "Avsender X: Kim Ode <kim@example.com>\nMottager Y: alex@example.com\nTid: 2. mars 2026 kl. 09.00\nRubrik Z: Tun",
    "date first": "Dags.: 2. mars 2026 09:00\nEfni: Garður\nFrá: kim@example.com\nTil: alex@example.com",
    "wrapped": "*From:* Kim Ode [mailto:\nkim@example.com]\n*Sent:* Monday, March 2, 2026 9:00\n*To:* Alex Moreau\n <alex@example.com>\n*Subject:* Garden",
    "no space": "De :Kim Ode<mailto:kim@example.com>\nEnvoyé le :lundi 2 mars 2026 09:00\nÀ :alex@example.com\nObjet :Jardin",
    "fullwidth": "送信元：Kim Ode <kim@example.com>\n日付：2026年3月2日 9:00\n件名：庭\n送信先：alex@example.com",
    "between blank lines": "From: kim@example.com\n\nTo: alex@example.com\n\nSent: 2 March 2026\n\nSubject: Garden",
    "names of another language": "Gönderen: Kim Ode\nTarih: 2 Mart 2026 Pazartesi 09:00\nKime: Alex Moreau\nKonu: Bahçe",
    "apple": "Początek przekazywanej wiadomości:\n\nOd: Kim Ode <kim@example.com>\nData: 2 marca 2026 09:00\nDo: alex@example.com\nTemat: Ogród",
    "names alone": "Da: Kim Ode\nRisposta: Kim Ode / Giardino\nData: lunedì 2 marzo 2026 9:00\nA: Alex Moreau\nOggetto: Giardino",
    "unknown mark": "--------- Áframsend skeyti ---------\nHvað: Garður\nHvenær: 2. mars 2026 09:00\nHver: Kim Ode <kim@example.com>",
    "address twice": "De : Kim Ode<mailto:kim@example.com>\nEnvoyé le :lundi 2 mars 2026 09:00\nÀ : alex@example.com<mailto:alex@example.com>\nObjet :Jardin",
    "sender alone": "From: kim@example.com <kim@example.com>",
    "sender and date": "From: kim@example.com\nDate: Mon, 2 Mar 2026 09:00:00 +0100",
    "date and receiver": "Date: Mon, 2 Mar 2026 09:00:00 +0100\nTo: alex@example.com",
    "sender and date on a line": "From: kim@example.com Date: Mon, 2 Mar 2026 09:00:00 +0100",
    "reply mark": "-----Reply Message-----",
    "one line": "----- Mensagem repassada ----- De: Kim Ode <kim@example.com>Para: alex@example.comEnviado: 2 de março de 2026",
}
NAMES = {  # from, date, to and subject, without an address
    "serbian": ("Од", "Датум", "За", "Тема"),
    "bulgarian": ("От", "Изпратено", "До", "Относно"),
    "catalan": ("De", "Enviat el", "Per a", "Assumpte"),
    "icelandic": ("Frá", "Dagsetning", "Til", "Efni"),
    "persian": ("از", "تاریخ", "به", "موضوع"),
    "hindi": ("प्रेषक", "दिनांक", "प्रति", "विषय"),
    "malay": ("Daripada", "Tarikh", "Kepada", "Subjek"),
    "taiwanese": ("寄件人", "寄件日期", "收件人", "主旨"),
    "japanese": ("送信者", "送信日時", "宛先", "件名"),
    "korean": ("보낸사람", "보낸날짜", "받는사람", "제목"),
    "georgian": ("ვისგან", "გაგზავნილია", "ვის", "თემა"),
    "mail.ru": ("От кого", "Дата", "Кому", "Тема"),
    "french apple": ("Expéditeur", "Date", "Destinataire", "Objet"),
    "gmail of old": ("_From", "_Sent", "_To", "_Subject"),
}
for language, (sender, sent, receiver, about) in NAMES.items():
    mark = "_" if sender[0] == "_" else ""
    names = (
        f"{sender}:{mark} Kim Ode",
        f"{sent}:{mark} 2.3.2026 9:00",
        f"{receiver}:{mark} Alex Moreau",
        f"{about}:{mark} X",
    )
    BLOCKS[f"names in {language}"] = "\n".join(names)
BLOCKS |= {
    "date and subject above a name": "Date: Mon, 2 Mar 2026 09:00:00 +0100\nSubject: Garden\nFrom: Kim Ode",
    "receiver last": "Datum: Mon, 2 Mar 2026 09:00:00 +0100\nOnderwerp: Tuin\nVan: Kim Ode\nAan: Alex Moreau",
    "norwegian mark": "-------- Opprinnelig melding --------\nFra: Kim Ode\nDato: 02.03.2026 09:00\nTil: Alex\nEmne: Hage",
    "mark of nobody": "-------- Áframsent X --------\nFra: Kim Ode\nDato: 02.03.2026 09:00\nTil: Alex\nEmne: Hage",
    "latvian": "No: Kim Ode <kim@example.com>\nNosūtīts: 2026. gada 2. marts 9:00\nKam: Alex Moreau\nTēma: X",
    "lotus": "-----Kim Ode/Garden/Example wrote: -----\nTo: Alex Moreau/Garden\nFrom: Kim Ode/Garden\nDate: 03/02/2026 09:00AM\nSubject: X",
    "two headers below a mark": '--- Оригінальне повідомлення ---\nВід кого: "Кім Оде" <kim@example.com>\nДата: 2 березня 2026, 09:00:00',
    "a table": "---- Replied Message ----\n| From | Kim Ode<kim@example.com> |\n| Date | 03/02/2026 09:00 |\n| To | alex@example.com |",
    "on behalf": "From: list@example.com [mailto:list@example.com]\nOn Behalf Of Kim Ode\nSent: Monday, March 2, 2026 9:00\nTo: alex@example.com\nSubject: X",
}
INTRODUCTIONS = {
    "roundcube in Swedish": "2026-03-02 09:00 skrev Kim Ode:",
    "roundcube in Dutch": "Kim Ode schreef op 2026-03-02 09:00:",
    "roundcube in Russian": "Kim Ode писал(а) 02.03.2026 09:00:",
    "yahoo in Japanese": "2026年3月2日月曜日 9:00:12 JST、Kim Ode <kim@example.com>が作成:",
    "apple in Thai": "Kim Ode <kim@example.com> เขียนเมื่อ 2 มี.ค. 2569 เวลา 09:00:",
    "unknown verb": "2. mars 2026 kl. 09:00 ritaði Kim Ode <kim@example.com>:",
    "wrapped address": "Am Mo., 2. März 2026 um 09:00 Uhr schrieb Kim Ode <kim@example.com\n>:",
    "wrapped before the verb": "On Mon, Mar 2, 2026 at 9:00 AM Kim Ode <kim@example.com\n> wrote:",
    "no colon behind the verb": "On Mon, 2 Mar 2026 09:00:00 +0100 Kim Ode <kim@example.com> wrote",
    "zone and name": "2026-03-02 09:00 GMT+01:00 Kim Ode",
    "bracket at a line's end": "Στις Δευ 2 Μαρ 2026 στις 9:00 π.μ., ο χρήστης Kim Ode <\nkim@example.com> έγραψε:",
    "wrapped before much": "Kim Ode <kim@example.com\n> ezt írta (időpont: 2026. márc. 2., H, 9:00):",
    "dashed above": "-------- Пересылаемое сообщение--------\n02.03.2026, 09:00, Kim Ode <kim@example.com>:",
    "korean": "2026. 3. 2. 오전 9:00 Kim Ode <kim@example.com> 작성:",
    "japanese": "2026年3月2日(月) 9:00 Kim Ode <kim@example.com>:",
    "name on a line of its own": "Kim Ode\n<kim@example.com> 于2026年3月2日周一 09:00写道：",
    "digits of Persian": "در تاریخ دوشنبه ۲ مارس ۲۰۲۶،\u200f ۹:۰۰ Kim Ode <kim@example.com> نوشت:",
    "many words": "Missatge de Kim Ode <kim@example.com> del dia dl., 2 de març 2026 a les 9:00:",
    "groupwise": ">>> Kim Ode <kim@example.com> 3/2/2026 9:00 AM >>>",
}
ABOVE_QUOTES = {
    **{
        f"only a name, {verb}": f"Kim Ode {verb}:"
        for verb in (
            "írta",
            "napsal(a)",
            "kirjoitti",
            "написал",
            "je napisao",
            "έγραψε",
            "yazdı",
            "a scris",
            "写道",
            "さんは書きました",
            "đã viết",
            "said",
        )
    },
    "address and verb": "Kim J. Ode <kim@example.com> antwortete:",
    "hungarian": '2026.03.02. 9:00 keltezéssel, "Kim Ode" írta:',
    "no colon": "2026/3/2 Kim Ode <kim@example.com>",
    "dashes": "---- Kim Ode wrote ----",
    "sent": "On 2-Mar-2026, at 9:00 AM, Kim Ode <kim@example.com> sent:",
}
PROSE = {
    "a form": "Name: Alex Moreau\nMail: alex@example.com\nSize: 42\nColour: green",
    "an invitation": "When: 2 March 2026, 10:00\nWhere: the old mill\nBring: a ladder\n\nSee you there!",
    "an invitation with an address": "When: Monday, 2 March 2026, 10:00\nWhere: at the old mill\nAnswers: kim@example.com\n\nSee you there!",
    "colons": "Monday: rain.\nTuesday: sun.\nWednesday 10:30: the plumber comes.\n\nWhat a week.",
    "a recipe": "Flour: 500 g\nWater: 300 ml\nSalt: 10 g\n\nBake it at 220 degrees from 10:00 on.",
    "written on": "I met Kim Ode on 2 March 2026 at 9:00 and she told me this:\n\nnever plant beans beside onions.",
    "somebody wrote": "Bob wrote on 3 May:\n\nthat was all I had to say about it.",
    "a table": "| day | who |\n| --- | --- |\n| Mon | Kim |\n\nDoes it suit you?",
    "a rule": "First part.\n\n----------\n\nSecond part, which is as long as the first one.",
    "notes": "As I said [1] and [2].\n\n----------\n[1] https://example.com/a\n[2] https://example.com/b",
    "about a program": "It is so slow.\n\nOutlook for iOS crashes.",
    "a contact": "Ask her:\n\nKim Ode\n<kim@example.com>\n\nShe knows.",
    "from a town": "Hello Kim,\n\nSent from Rome, the parcel took a week.",
    "from a town of two words": "Hello Kim,\n\nSent from New York, it never came here.",
    "from the desk": "Here is another thought.\n\nSent from my desk, which is easier than from my phone.",
    "love": "See you.\n\nSent with love and a hug",
    "a device": "I never wanted it.\n\nI love my iPhone",
    "lower case": "> can you come on Saturday to help me with the ladder in the garden\nsure, no problem\n\nBye",
    "bold words": "Three things:\n*First:* the roof.\n*Second:* the door at 10:30.\n*Third:* me.",
    "dashes": "We need:\n-- nails --\nand glue.",
    "a dialogue": "Kim: are you coming?\nAlex: at 9:00.\nKim: kim@example.com is my new address.",
    "licences": "Files: *\nCopyright: 2003-2004 Kim Ode <kim@example.com>\n 2005 Alex Moreau <alex@example.com>\nLicense: GPL-2+\n\nThat is all of it.",
    "handles": "roof: new tiles, built by @kimode\ndoor: painted 2 May 2026 by @alexm\nlamp: from @kimode\n\nDone.",
    "a version": "It fails with the tool of version 2.95.2.\nKim Ode <kim@example.com> responded:\n\nso it does.",
    "a day and an address": "Come to the old mill:\n2026-03-02 10-12\nkim@example.com",
    "links under a rule": "Two pages that I like.\n\n----------\nhttps://example.com/20260302100000\nhttps://example.com/b",
    "points under a rule": "Who helps:\n----------\n* Kim, kim@example.com\n* Alex, alex@example.com",
    "an ornament": "Come and see us.\n>>> >>>  https://example.com <<<\nThe link is above.",
    "a date to somebody": "Date: 2 March\nTo: whoever reads this\n\nBring a ladder.",
    "written to": "On Mon, 2 Mar 2026 at 9:00 I sent it to kim@example.com and waited\n\nfor a week.",
    "someone greeted": "Dear Kim Ode:\n\nbring a ladder.",
    "a poem": "-- The rain --\nfalls on the garden;\n-- the wind --\nwrote nothing.",
    "no, with a colon": "No: I can't.\nTo: the garden, then.\nSubject: closed.",
    "a day told": "On Monday, Anna wrote: come at once, and on Tuesday she wrote: stay.\n\nSo I stayed.",
    "code": "def f(a):\n    return {'to': a}\n\nIt prints 10:30.",
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_headers(name):
    for text in (f"{OWN}\n\n{BLOCKS[name]}\n\n{THEIRS}", f"{OWN}\n\n{'_' * 20}\n{BLOCKS[name]}\n\n{THEIRS}"):
        assert strip_quotes(text, PEOPLE) == OWN
    assert strip_quotes(f"{BLOCKS[name]}\n\n{THEIRS}", PEOPLE) == ""


@pytest.mark.parametrize("name", INTRODUCTIONS)
def test_introductions(name):
    """With and without marks of what is quoted; what is written below marked lines stays."""
    assert strip_quotes(f"{OWN}\n\n{INTRODUCTIONS[name]}\n\n{THEIRS}", PEOPLE) == OWN
    assert strip_quotes(f"{INTRODUCTIONS[name]}\n> {THEIRS}\n\n{OWN}", PEOPLE) == OWN


@pytest.mark.parametrize("name", ABOVE_QUOTES)
def test_introductions_above_quotes(name):
    for mark in (">", "|", "»", "Kim>") if name != "dashes" else (">",):
        assert strip_quotes(f"{OWN}\n\n{ABOVE_QUOTES[name]}\n\n{mark} {THEIRS}\n{mark} Really.", PEOPLE) == OWN


@pytest.mark.parametrize("name", PROSE)
def test_prose_is_kept(name):
    own = "\n".join(line for line in PROSE[name].split("\n") if not line.startswith("> "))
    assert strip_quotes(PROSE[name], PEOPLE) == own
    assert strip_quotes(f"{OWN}\n\n{PROSE[name]}", PEOPLE).split() == f"{OWN}\n\n{own}".split()


@pytest.mark.parametrize("between", [" ", "--- ", " -- "])
def test_own_text_on_the_line_of_an_introduction(between):
    for own in (OWN, OWN.removesuffix(".")):
        text = f"{own}{between}On Mon, Mar 2, 2026 at 9:00 AM, kim@example.com wrote:\n> {THEIRS}"
        assert strip_quotes(text) == own


def test_text_below_a_quoted_forward_stays():
    text = (
        f"Begin forwarded message:\n\n> From: Kim Ode <kim@example.com>\n> Date: 2 March 2026\n>\n> {THEIRS}\n\n{OWN}"
    )
    assert strip_quotes(text) == OWN


@pytest.mark.parametrize("introduction", ["Kim Ode wrote:", "Kim J. Ode <kim@example.com> wrote:"])
def test_own_text_before_an_introduction_without_a_date(introduction):
    assert strip_quotes(f"{OWN} {introduction}\n> {THEIRS}") == OWN
    assert strip_quotes(f"{introduction}\n> {THEIRS}\n{OWN}") == OWN


def test_a_mark_above_an_introduction_of_quotes_goes_alone():
    mark = "‐‐‐‐‐‐‐ Original Message ‐‐‐‐‐‐‐\nOn Monday, March 2, 2026 9:00 AM, Kim Ode <kim@example.com> wrote:\n"
    assert strip_quotes(f"{OWN}\n\n{mark}\n> {THEIRS}\n\n{OWN}") == f"{OWN}\n\n{OWN}"


def test_a_forward_whose_lines_were_wrapped():
    forward = f"> From: Kim Ode <kim@example.com>\n> Date: 2 March 2026\n>\n> My knee\nHurts. The doctor\n> {THEIRS}"
    assert strip_quotes(f"{OWN}\n\nForwarded message:\n\n{forward}\n\n{OWN}") == f"{OWN}\n\n{OWN}"


def test_ends_of_quoted_lines():
    """One is enough where the line above is full and the one below is quoted too; so is a link that is open."""
    full = "> My knee hurts a lot since Sunday and the doctor told me that I should"
    for quoted in (
        f"{full}\nrest\n> a while.",
        "> See the page (https://example.com/a\nb=3)\n> there.",
        f"> {'x' * 70}=\nRest",
    ):
        assert strip_quotes(f"{OWN}\n\nOn 2 March 2026 kim@example.com wrote:\n{quoted}\n") == OWN
    assert strip_quotes(f"{full}.\nyes, it should\n> a while.") == "yes, it should"


def test_quotes_that_were_wrapped_anew():
    quoted = "> My knee hurts a lot since Sunday and the doctor told me that I should\nrest\n"
    assert strip_quotes(f"{OWN}\n\n{quoted}{quoted}> Bye.") == OWN


@pytest.mark.parametrize(
    "footer",
    [
        "__\ngarden mailing list\ngarden@lists.example.org\nhttps://lists.example.org/garden",
        "----------------\n\nAlex Moreau\n\nt. 555-010-0702\n\nhttp://www.example.com/",
        "Sent wirelessly from my BlackBerry device on the Example network.",
        "Lähetetty iPhonesta", "iPhoneから送信", "Отправлено с iPhone", "Get [Outlook for iOS](https://aka.example/x)",
        "==========", "(Sent from my phone)", "Odesláno z iPhonu", "Obter o Outlook para Android", "Sent from myMail for iOS",
        "Von Samsung Galaxy-Smartphone gesendet.", "Στάλθηκε από το iPhone μου", "Envoyé depuis l’application Mail",
        "Hämta Outlook för iOS<https://aka.example/x>", "iOS용 Outlook 다운로드", "iPhone-omról küldve", "Được gửi từ iPhone của tôi",
    ],
)  # fmt: skip
def test_what_stands_below(footer):
    assert strip_quotes(f"{OWN}\n\n{footer}") == OWN


@pytest.mark.parametrize(
    "html",
    [
        f"<div>{OWN}<hr><b>From: </b>kim@example.com<br><b>To: </b>alex@example.com<br><b>Sent: </b>2 March 2026<br><br>{THEIRS}</div>",
        f'<p>{OWN}</p><div><hr id="stopSpelling">From: kim@example.com<br>Date: 2 March<br>{THEIRS}</div>',
        f'<p>{OWN}</p><div id="x_appendonsend"></div><p>Kim Ode</p>{THEIRS}',
        f'<p>{OWN}</p><span id="OLK_SRC_BODY_SECTION"><p>{THEIRS}</p></span>',
        f'<p>{OWN}</p><div class="gmail_quote"><div class="gmail_attr">Sun Kim, at nine:</div><blockquote>{THEIRS}</blockquote></div>',
        f'<div class="gmail_quote"><blockquote>{THEIRS}</blockquote></div><p>{OWN}</p>',
    ],
)
def test_markup(html):
    assert strip_quotes(html_to_text(html), PEOPLE) == OWN


@pytest.mark.parametrize("line", ["---- Kim Ode wrote ----", "----- Kim Ode <kim@example.com> schrieb: -----"])
def test_an_introduction_between_dashes_needs_no_marks(line):
    assert strip_quotes(f"{OWN}\n\n{line}\n\n{THEIRS}") == OWN


def test_a_greeting_above_a_quote_stays():
    assert strip_quotes(f"Dear Kim Ode:\n\n> {THEIRS}\n\n{OWN}", PEOPLE) == f"Dear Kim Ode:\n\n{OWN}"


DEVICES = [
    "Sent from [Mail](https://go.example/fwlink/?LinkId=550986) for Windows",
    "Sent with [Proton Mail](https://proton.example/) secure email.",
    "Sent via [Superhuman](https://sprh.example/?vip=alex@example.com)",
    "Envoyé avec la messagerie sécurisée Proton Mail.",
    "Enviado con Proton Mail correo seguro.",
    "Enviado por Samsung Mobile",
    "Verzonden vanuit Mail voor Windows",
    "Skickat från E-post för Windows",
    "Sendt fra Mail til Windows",
    "Wysłano z mojego iPhone'a",
    "Отправлено из мобильного приложения Яндекс Почты",
    "从 Windows 版邮件发送",
    "تم الإرسال من iPhone الخاص بي",
    "Gửi từ iPhone của tôi",
    "Este mensaje ha sido enviado desde mi BlackBerry",
    "Sent on the Sprint® Now Network from my BlackBerry®",
    "-- Sent from my Palm Pre",
    "*Sent from my iPhone*",
    "[Sent from my iPhone]",
    "Sent from the all new AOL app for iOS",
    "Sicher versendet mit Tutanota.\nhttps://tuta.example",
    "Sent wirelessly from my BlackBerry device on the Bell network.\nEnvoyé de mon BlackBerry",
    "Virus-free. www.avast.example",
    "---\nThis email has been checked for viruses by Avast antivirus software.\nhttps://www.avast.example/antivirus",
    "Diese E-Mail wurde von Avast-Antivirussoftware auf Viren geprüft.\nhttps://www.avast.example/antivirus",
]


@pytest.mark.parametrize("line", DEVICES)
def test_what_programs_say_of_themselves(line):
    assert strip_quotes(f"{OWN}\n\n{line}\n") == OWN


@pytest.mark.parametrize(
    "own",
    [
        "The letter was sent from Rome and took a week.",
        "He got it from the Proton lab, sent with love.",
        "My doctor says that the virus is gone.",
        "The virus scanner Avast is free, says Kim.",
        "Kaspersky wrote a book about viruses, which I never finished reading to its very end, and I am sorry.",
        "*Sent flowers to Kim*",
        "- Mail the keys",
        "Sent with my love, the iPhone is yours now.",
    ],
)
def test_sentences_that_look_like_them_stay(own):
    assert strip_quotes(f"{OWN}\n\n{own}") == f"{OWN}\n\n{own}"


FOOTERS = [
    f"{'_' * 47}\nGarden mailing list\nGarden@lists.example.org\nhttps://lists.example.org/a\n{'_' * 47}\nOther mailing list\nOther@lists.example.org\nhttps://lists.example.org/b",
    f"{'_' * 47}\ngarden mailing list\nhttps://lists.example.org/mailman/listinfo/garden",
    f"{'_' * 47}\nGarden Mailingliste\nJetzt ein- oder austragen:\nhttps://lists.example.org/mailman/listinfo/garden",
    f"{'#' * 72}\n\nTo unsubscribe from the GARDEN list, click the following link:\nhttps://www.lists.example/cgi-bin/WA.exe?SUBED1=GARDEN&A=1",
    "-=-=-=-=-=-=-=-=-=-=-=-\nYou receive all messages sent to this group.\nView/Reply Online: https://garden.example/12\nUnsubscribe: https://garden.example/unsub [alex@example.com]\n-=-=-=-=-=-=-=-=-=-=-=-",
    "\u2500" * 10 + "\n\nAlex Moreau\n\nt. 555-010-0702\n\nhttp://www.example.com/",
    "- - - - - -\n\nAlex Moreau\n\nt. 555-010-0702\n\nhttp://www.example.com/",
]


@pytest.mark.parametrize("footer", FOOTERS)
def test_footers_of_lists_and_cards_below_rules(footer):
    assert strip_quotes(f"{OWN}\n\n{footer}") == OWN
