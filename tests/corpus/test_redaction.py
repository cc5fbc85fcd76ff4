"""What identifies people goes, what does not stays, and all of it can be put back."""

import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from revinst.corpus.redaction import KINDS, Redaction
from revinst.corpus.redaction_report import RedactionReport
from revinst.data.redacted import PLACEHOLDER, restore
from tests.cpu_time import seconds

NAMES = ["Zoë Quarkington", "Will O'Brien", "李明", "Jo B. Support Team"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to zoe.q+x@mail.example.org, please.", "Write to [EMAIL_1], please."),
        ("See https://a.example/x?y=1&z=2, or www.b.example.", "See [URL_1], or [URL_2]."),
        ("Call +49 170 5550 1234 or (030) 555-98 76.", "Call [PHONE_1] or [PHONE_2]."),
        ("Pay DE44 5001 0517 5407 3249 31 now.", "Pay [NUMBER_1] now."),
        ("Ticket 48213377, room 12345.", "Ticket [NUMBER_1], room 12345."),
        ("The card 4111 1111 1111 1111.", "The card [NUMBER_1]."),
        ("Zoë, ZOË and zoë's Quarkington", "[NAME_1], [NAME_2] and [NAME_3]'s [NAME_4]"),
        ("I will ask Will.", "I will ask [NAME_1]."),
        ("我和李明说过", "我和[NAME_1]说过"),  # no spaces between words
        ("李明: hello", "[NAME_1]: hello"),
        ("The support team met Zoëlogists", "The support team met Zoëlogists"),
        (
            "On 2026-03-02, 02.03.2026, 1/2/2026, 10.30-12.00",
            "On 2026-03-02, 02.03.2026, 1/2/2026, 10.30-12.00",
        ),
        ("1914-1918 cost 1.200.000 or 3.1415", "1914-1918 cost 1.200.000 or 3.1415"),
        ("Zoës Haus, Quarkingtons hus; the quarkingtons", "[NAME_1] Haus, [NAME_2] hus; the quarkingtons"),
        ("Dear Jo, jo is no name", "Dear [NAME_1], jo is no name"),
        ("06\u202f12\u202f34\u202f56\u202f78", "[PHONE_1]"),
        ("Tel.0301234567, ID12345678, call 0171/2345678a", "Tel.[NUMBER_1], ID[NUMBER_2], call [PHONE_1]a"),
        ("tel.030 1234567 or 030 \u2013 123 45 67", "tel.[PHONE_1] or [PHONE_2]"),
        ("Tel. 1234-5678, 1914\u20131918", "Tel. [PHONE_1], 1914\u20131918"),
        ("DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000", "[NUMBER_1]"),
        ("4111 1111 1111\n1111", "[NUMBER_1]"),
        ("portal.example.com/reset?token=S, bit.ly/3x, and/or e.g. this", "[URL_1], [URL_2], and/or e.g. this"),
        ("https://x.example/r?token=abc'S mailto:b@e.net?subject=S", "[URL_1] [URL_2]"),
        ("[EMAIL_1] is what I wrote to a@b.example", "[TEXT_1] is what I wrote to [EMAIL_1]"),
    ],
)
def test_redact(text, expected):
    redaction = Redaction(NAMES)
    assert redaction.redact(text) == expected
    assert restore(expected, redaction.placeholders) == text


PROSE = """
Python 3.11.9 and torch 2.13.0+cu126 on 10.0.19041.1023
It was 3,499.99 EUR or $1,299,000, 12 500 000 Kč, 1.234.567,89 €, USD 1299000
ISBN 978-3-16-148410-0, 9783161484100, ISBN 0-306-40615-2, ISSN 2049-3630
order #10293, PO 45-2231, invoice 2024-00123, RE-2024/117, A-2024-0117
2026-03-02T10:00:00+00:00 and 02.03.2026 10:30, 3/14/2026, 12/2026, 20260302
between 1985 and 1991, 1939-1945, 2019/20, in the 2003-04 season, 14 October 1909 28 January 1938
a 1920x1080 screen, 16:9, 100-150 g, 20-25 minutes, 3-0, 21:19 21:17, scores 15 78 69, 26 92 67
1 234 567 people and 865000 inhabitants, 148729 sq mi, 1000000 steps, 3000-2350 BC, 3283/1700
RFC 2119, room 12345, gate B12, flight LH 1234, bus 100, A4, Boeing 737-800, a Ruff ~150-200x faster
Pi is 3.14159265 and e is 2.718281828; 52.520008; Phys. Rev. E 71, 36108 (2005)
@property def x(self), @media print, meet @ 5pm, 3 @ 2.50, @channel @here, @app.command(), @click.option{}
In 2015 Supreme Court, Am Montag 3 Uhr, Im Sommer 2015, Zum Beispiel 5, Via Zoom 15 Uhr, Room A1 2PM
Will you come? The rose and the mark: a stone, long way, young and small.
Das ist Spring 2015, Engineering 101, Version 3, Kapitel 5, Norwegen 3, Platz 2
"""


@pytest.mark.parametrize("text", [*PROSE.strip().splitlines(), "@cached\n  def f(self)"])
def test_prose_stays(text):
    names = ["Zoe Stone", "Rose Miller", "William Tell", "Ida Young", "Marcus Small"]
    assert Redaction(names, languages=["en", "de"]).redact(text) == text


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Call me: 555-9876; my number is 0171 2345678", "phone phone"),
        ("+1 (415) 555-2671, 415-555-2671, (415) 555-2671", "phone phone phone"),
        ("06 12 34 56 78; 612 34 56 78; 601 234 567", "phone phone phone"),
        ("8 (912) 345-67-89; 090-1234-5678; (11) 98765-4321; 138 1234 5678", "phone phone phone phone"),
        ("GB82 WEST 1234 5698 7654 32 or DE89370400440532013000", "bank account, bank account"),
        ("5500 0000 0000 0004; 3714 496353 98431; not 5500 0000 0000 0005", "payment card, payment card, long number"),
        ("DE45 5001 0517 5407 3249 31 is mistyped", "long number"),
        ("@zoe_q, u/zebulon99, @maria.k-2 wrote it", "handle handle handle"),
        ("192.168.178.21; 123-45-6789; 4021 5567 8890", "long number, long number, long number"),
        ("12 Baker Street, London NW1 6XE", "house"),
        ("350 N. Fifth Ave., Apt 4, Springfield, IL 62704", "house"),
        ("Lange Straße 12a, 10115 Berlin", "house"),
        ("Hauptstr. 5; Kurt-Schumacher-Ring 5; Am Alten Markt 3, 50667 Köln", "house house house"),
        ("Kerkstraat 3, 1017 GA Amsterdam; Storgatan 8", "house house"),
        ("12 bis, rue de la Paix, 75002 Paris", "house"),
        ("Calle Mayor 5, 28013 Madrid; Via Roma 12; Rua das Flores, 20", "house house house"),
        ("ul. Długa 7/3, 00-950 Warszawa; ул. Ленина, д. 5, кв. 12", "house house"),
        ("東京都港区芝公園4-2-8; 北京市海淀区中关村大街27号; 서울시 강남구 테헤란로 152", "house house house"),
        ("P.O. Box 1234; SW1A 1AA", "house house"),
    ],
)
def test_kinds(text, kinds):
    """All of it but commas and words between goes, and counts as what it is."""
    redaction = Redaction()
    redacted = redaction.redact(text)
    wanted = kinds.split(", ") if "," in kinds else [kinds] if kinds in KINDS else kinds.split()
    assert redaction.found == Counter(wanted), redacted
    assert not re.search(r"\d", re.sub(PLACEHOLDER, "", redacted)) and restore(redacted, redaction.placeholders) == text


@pytest.mark.parametrize(
    ("language", "name", "text"),
    [
        ("pl", "Tomek Nowak", "Tomka Tomkowi Nowakiem Nowaka"),
        ("pl", "Anna Kowalska", "Anny Annę Kowalskiej Ani"),
        ("cs", "Pavel Novák", "Pavla Pavlem Nováka"),
        ("ru", "Иван Петров", "Ивана Ивану Петровым Ваня"),
        ("ru", "Анна Петрова", "Анны Анной Петровой Аня"),
        ("uk", "Олена Коваль", "Олени Олену Ковалем"),
        ("lt", "Jonas Kazlauskas", "Jono Jonui Kazlausko"),
        ("el", "Γιώργος Παππάς", "Γιώργο Παππά"),
        ("fi", "Pekka Virtanen", "Pekan Pekalle Virtasen"),
        ("hu", "Péter Nagy", "Péternek Péterrel Nagyot"),
        ("de", "Zoë Quarkington", "Zoës Quarkingtons"),
        ("en", "Robert Stone", "Bob Robbie Stones"),
        ("en", "William Stone", "Bill Billy"),
        ("he", "דוד", "לדוד ודוד"),
        ("ko", "김철수", "철수가 김철수에게 철수"),
        ("ja", "田中太郎", "田中太郎さん"),
    ],
)
def test_cases_and_short_forms_of_a_name(language, name, text):
    redacted = Redaction([name], languages=[language]).redact(f"x {text} x")
    assert not re.search(r"[^\W\d_]{2,}", re.sub(PLACEHOLDER, "", redacted).replace("さん", "")), redacted
    others = Redaction([name], languages=["pt"]).redact(f"x {text} x")
    assert language in ("de", "en", "he", "ko", "ja") or others != redacted, "only in that language"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Will you ask Will? Will said yes.", "Will you ask [NAME_1]? [NAME_1] said yes."),
        (
            "Mr Park and Jordan Park was in Hyde Park. Park it.",
            "Mr [NAME_1] and [NAME_2] [NAME_1] was in Hyde Park. Park it.",
        ),
        (
            "Ask Park. The park, Park Lane, car parks, Parks.",
            "Ask [NAME_1]. The park, Park Lane, car parks, Parks.",
        ),
        ("May I? I met May Long; take long.", "May I? I met [NAME_1] [NAME_2]; take long."),
        (
            "May came in May, on 3 May, May 3rd, 3rd of May and in late May 2026; ask May.",
            "[NAME_1] came in May, on 3 May, May 3rd, 3rd of May and in late May 2026; ask [NAME_1].",
        ),
        (
            "Grace and Rose of the Rose, a time of grace, Hope of peace. With Rose, hope, Hope!",
            "[NAME_1] and Rose of the Rose, a time of grace, Hope of peace. With [NAME_2], hope, [NAME_3]!",
        ),
        ("You told her a short story; see you, her and Yu.", "You told her a short story; see you, her and [NAME_1]."),
    ],
)
def test_names_that_are_also_words(text, expected):
    people = ["Will Stone", "Jordan Park", "May Long", "Grace Her", "Rose Story", "Hope See", "Yu You"]
    assert Redaction(people).redact(text) == expected


def test_articles_of_other_languages_stand_before_names():
    """`a` is "to" in Spanish, `an` in German, `of` is "or" in Dutch."""
    redaction = Redaction(["Rosa Story", "Grace Her", "Rose Long"], languages=["nl", "es", "de"])
    text = "He visto a Rosa. Ich schrieb an Rosa, der Rose. Komt Grace of Rose?"
    assert redaction.redact(text).count("[NAME_") == 5


def test_german_nouns_are_no_names():
    text = "Frau Winter kommt im Winter, der Koch kocht. Herr Koch auch."
    redacted = "Frau [NAME_1] kommt im Winter, der Koch kocht. Herr [NAME_2] auch."
    assert Redaction(["Ida Winter", "Emil Koch"], languages=["de"]).redact(text) == redacted


def test_names_that_are_mine_stay():
    redaction = Redaction(
        ["Alex Moreau", "@alexm", "Alex Stone", "Bob Hill", "bob@hill.example"], ["Alex Moreau", "@alexm"]
    )
    text = "Alex, @alexm and @bobh met Moreau, Bob and Stone at an example of a hill."
    assert (
        redaction.redact(text)
        == "Alex, @alexm and [HANDLE_1] met Moreau, [NAME_1] and [NAME_2] at an example of a hill."
    )


def test_report_shows_what_may_have_been_missed(tmp_path):
    redaction, report = Redaction(["Ann Hill"]), RedactionReport()
    texts = [
        "Hi Zebulon,\n\nAnn told me that she met Zebulon Quark there, who wants 12345 of them.",
        "We saw Zebulon Quark in New York and were in a new house at york.",
        "Nothing here.",
    ]
    for text in texts:
        report.look(text, redaction.redact(text))
    report.write(tmp_path / "own.redaction.txt", redaction)
    lines = (tmp_path / "own.redaction.txt").read_text()
    assert "1 of 3 texts" in lines and "name: 1" in lines
    assert "2 x Zebulon Quark" in lines and "1 x 12345" in lines and "1 x Zebulon " in lines
    assert "New York" not in lines.split("Digits")[0].split("   1 x")[-1] and "   1 x New York" not in lines
    assert (tmp_path / "own.redaction.txt").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "1" * 100_000,
        "aB3" * 40_000,
        "a." * 50_000,
        "a+" * 50_000,
        "1 " * 50_000,
        "Aa " * 50_000,
        "12 Aa Bb " * 20_000,
        "A-" * 50_000,
        "中" * 100_000,
        "@a." * 40_000,
        "Straße " * 20_000,
    ],
)
def test_long_runs_take_no_longer_than_their_letters(text):
    def work() -> None:
        assert restore((redaction := Redaction(NAMES)).redact(text), redaction.placeholders) == text

    assert seconds(work) < 5


def test_the_same_thing_has_one_placeholder(tmp_path):
    redaction = Redaction(["Ann Example"])
    texts = [redaction.redact(text) for text in ("Ann: a@b.org", "c@d.org, a@b.org", "Ann again")]
    assert texts == ["[NAME_1]: [EMAIL_1]", "[EMAIL_2], [EMAIL_1]", "[NAME_1] again"]
    path = tmp_path / "placeholders.json"
    redaction.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["[EMAIL_2]"] == "c@d.org"


pieces = st.sampled_from(
    ["Zoë", "a@b.org", "[EMAIL_1]", "[NAME_2]", "+49 170 5550 1234", "www.x.org", " ", "will", "["]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces | st.text(max_size=5), max_size=12).map("".join))
def test_restore_undoes_redact(text):
    redaction = Redaction(NAMES)
    assert restore(redaction.redact(text), redaction.placeholders) == text
