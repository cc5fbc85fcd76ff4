"""No mail, whatever its bytes, ends `corpus`: one that can't be read is counted and named, the others are read; and
nothing takes time in the square of a mail's length.
"""

import ast
import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import revinst.corpus
import revinst.data
from revinst.corpus.build import build_texts
from revinst.corpus.headers import read_header
from revinst.corpus.mail import read_mail
from revinst.corpus.mail_names import read_names
from revinst.corpus.mail_text import html_to_text, join_flowed
from revinst.corpus.quotes import strip_quotes
from revinst.corpus.redaction import Redaction
from revinst.corpus.settings import Reading
from revinst.corpus.tables import read_iso
from revinst.corpus.texts import Message
from revinst.corpus.tweets import read_tweet, read_tweet_date
from revinst.errors import UserError
from tests.cpu_time import LENGTH, assert_linear, seconds

ME = frozenset({"alex@example.com"})
TEXT = "Thank you, Saturday suits me and I will bring the two ladders."
CUT_WORD = b"=?UTF-8?B?SGVsbG8gS2ltA?="  # base64 of no such length
HYPOTHESIS = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)


def mail(headers: bytes = b"", kind: bytes = b"text/plain; charset=UTF-8", body: bytes = TEXT.encode()) -> bytes:
    return b"From: Alex Moreau <alex@example.com>\n" + headers + b"Content-Type: " + kind + b"\n\n" + body


def read(content: bytes) -> Message:
    return read_mail(content, "here", ME)


# ---- headers ---------------------------------------------------------------------------------------------------------

ODD_HEADERS = [
    CUT_WORD,
    b"=?utf\xe98?B?SGVsbG8?=",  # a charset's name with a byte above 127
    b"=?\x00?q?a?=",
    b"=?utf-8?q?=FF=FE?= =?utf-8?b?/w==?=",
    b"=?" * 9,
    b"\xff\xfe\x00",
    b"x" * 3000 + b"@",
    b"(" * 3000,
    b'"' * 301,
    b"9" * 400,
    b"Mon, 2 Mar 2026 10:00:00 +99999999",
    b"Mon, 99 Mar 99999 99:99:99",
]
PIECES = [b"=?", b"?=", b"?q?", b"?B?", b"utf-8", b"=?x?", b"<", b">", b"@", b'"', b"(", b",", b";", b"=", b"\\", b" "]
PIECES += [b"\t", b"\n ", b"9", b":", b"a", b"\xe9", b"*0*=", b"%E9"]
odd_header = st.one_of(
    st.sampled_from(ODD_HEADERS),
    st.binary(max_size=60).map(lambda value: re.sub(rb"[\r\n]", b"", value)),
    st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join),
)


@settings(HYPOTHESIS, max_examples=200)
@given(st.dictionaries(st.sampled_from([b"To", b"Cc", b"Reply-To", b"Date", b"Message-ID", b"References"]), odd_header))
@example({b"To": CUT_WORD, b"Date": CUT_WORD})
def test_a_header_does_not_cost_the_text(headers):
    """What stands in a header that the text does not depend on."""
    content = mail(b"".join(name + b": " + value + b"\n" for name, value in headers.items()))
    found = read(content)
    assert found.text == TEXT and not found.left_out
    assert found.date == "" or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found.date)


@pytest.mark.parametrize("value", ODD_HEADERS)
def test_nor_does_a_subject(value):
    found = read(mail(b"Subject: " + value + b"\nX-Gmail-Labels: " + value + b"\n"))
    assert found.text == TEXT and not found.left_out


def test_words_are_decoded_beside_one_that_can_not_be():
    import email

    message = email.message_from_bytes(
        b"Subject: =?utf-8?q?caf=C3=A9?= =?utf-8?q?_=C3?=\n =?utf-8?q?=A9t=C3=A9?= and " + CUT_WORD + b" here\n"
        b"To: =?UTF-8?Q?Zo=C3=AB_what?_Quark?= <zoe@example.org>, a@b Bob@home @c (\n\n"
    )
    assert read_header(message, "Subject") == f"café été and {CUT_WORD.decode()} here"
    assert read_names(message) == ("Zoë what? Quark , @c (",)


CHARSETS = [
    b"utf\xe9",
    b"a\x00b",
    b"base64",
    b"rot13",
    b"idna",
    b"punycode",
    b"unicode-escape",
    b"undefined",
    b"x" * 999,
]


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_charset_that_is_none(charset):
    found = read(mail(kind=b"text/plain; charset=" + charset))
    assert found.text == TEXT and not found.left_out


# ---- whole mails -----------------------------------------------------------------------------------------------------

parameter = st.tuples(
    st.sampled_from([b"charset", b"boundary", b"name", b"format", b"charset*", b"boundary*0"]), odd_header
)
kind = st.tuples(
    st.sampled_from([b"text/plain", b"text/html", b"multipart/mixed", b"multipart/alternative", b"message/rfc822",
                     b"message/delivery-status", b"multipart/", b"/", b"\xff", b""]),
    st.lists(parameter, max_size=3),
).map(lambda found: found[0] + b"".join(b"; " + name + b"=" + value for name, value in found[1]))  # fmt: skip
encoding = st.sampled_from([b"base64", b"quoted-printable", b"x-uuencode", b"8bit", b"\xff", CUT_WORD])
body = st.one_of(
    st.binary(max_size=80),
    st.lists(st.sampled_from([b"--b\n", b"--b--\n", b"--\n", b"\n", b"> x\n", b"<p>", b"</div", b"<!--", b"&#0;", b"=",
                              b"begin 644 x\n", b"\xff", b"On Mon wrote:\n", b"From: a\n", b"-- \n"]), max_size=20)
    .map(b"".join),
)  # fmt: skip
part = st.tuples(kind, encoding, body).map(
    lambda found: b"Content-Type: %s\nContent-Transfer-Encoding: %s\n\n%s" % found
)


@st.composite
def mails(draw) -> bytes:
    names = st.sampled_from([b"From", b"Subject", b"To", b"Date", b"Message-ID", b"Auto-Submitted", b"X-Gmail-Labels"])
    headers = draw(st.lists(st.tuples(names, odd_header), max_size=4))
    parts = draw(st.lists(part, min_size=1, max_size=3))
    content = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" + b"\n--b\n".join(parts) + b"\n--b--\n"
    content = content if draw(st.booleans()) else parts[0]
    me = b"From: alex@example.com\n" * draw(st.booleans())
    return me + b"".join(name + b": " + value + b"\n" for name, value in headers) + content


@settings(HYPOTHESIS, max_examples=300)
@given(st.one_of(mails(), st.binary(max_size=200)))
@example(b"")
@example(mail(kind=b'text/plain; charset="' + CUT_WORD + b'"'))
def test_no_mail_raises(content):
    found = read(content)
    assert found.text or found.left_out or found.author


def nested(depth: int, same_boundary: bool) -> bytes:
    levels = (b"b" if same_boundary else b"b%d" % level for level in range(depth))
    return b"From: alex@example.com\n" + b"".join(
        b'Content-Type: multipart/mixed; boundary="%s"\n\n--%s\n' % (name, name) for name in levels
    ) + b"Content-Type: text/plain\n\n" + TEXT.encode()  # fmt: skip


DEEP = {
    "parts": nested(10_000, same_boundary=False),
    "parts of one boundary": nested(10_000, same_boundary=True),
    "mails": b"From: alex@example.com\n" + b"Content-Type: message/rfc822\n\n" * 10_000,
    "HTML": mail(kind=b"text/html", body=b"<div>" * 10_000 + TEXT.encode()),
    "comments in an address": b"From: " + b"(" * 10_000 + b" alex@example.com\n\n" + TEXT.encode(),
}


@pytest.mark.parametrize("what", DEEP)
def test_ten_thousand_levels(what):
    found = read(DEEP[what])
    assert found.left_out or found.text == TEXT


def test_tables_in_tables_are_read():
    """As newsletters have them, deeper than libxml2 goes unasked."""
    found = read(mail(kind=b"text/html", body=b"<table><tr><td>" * 130 + TEXT.encode() + b"</td></tr></table>" * 130))
    assert found.text == TEXT and not found.left_out


def test_the_others_are_read(tmp_path):
    """Bad mails are counted and named, in a mailbox and beside it."""
    source, out = tmp_path / "mail", tmp_path / "out"
    source.mkdir()
    bad = [mail(b"Subject: " + CUT_WORD + b"\nMessage-ID: <1@x>\n"), DEEP["parts"], DEEP["HTML"], b"", b"\xff" * 99]
    for number, content in enumerate([*bad, mail(body=b"A last one, quite in order.")]):
        (source / f"{number}.eml").write_bytes(content)
    start = b"From a@b Mon Mar  2 10:00:00 2026\n"
    (source / "all.mbox").write_bytes(b"\n".join(start + content for content in bad))
    (source / "tweets.js").write_text("window.YTD.tweets.part0 = " + "[" * 100_000)
    (source / "no.zip").write_bytes(b"PK\x03\x04" + b"\xff" * 300)
    texts = list(build_texts(out, Reading(source, tuple(ME))))
    assert [row["where"] for row in texts] == ["mail/0.eml", "mail/5.eml"], "the mailbox has a copy of the first"
    discarded = [json.loads(line) for line in (out / "discarded.jsonl").read_text().splitlines()]
    reasons = {row["where"]: row["reason"] for row in discarded}
    assert reasons["mail/1.eml"] == reasons["mail/all.mbox#2"] == "the mail can't be read (RecursionError)"
    assert "tweets.js" in reasons["mail/tweets.js"] or "can't be read" in reasons["mail/tweets.js"]
    assert len(reasons) == 4 + 4 + 2 and "mail/no.zip" in reasons, "the last two of the mailbox are one to it"


@pytest.mark.parametrize("date", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "x", None, 9**99])
def test_dates_at_the_ends_of_the_calendar(date):
    assert read_iso(date) == ""
    assert read_tweet_date("Mon Jan 01 00:00:00 +2359 0001") == ""


# ---- time ------------------------------------------------------------------------------------------------------------

RUNS = ["x", "@", " ", "1", ">", "\n", ".", "-", "<", '"', "a@", "=?"]
UNITS = [
    *RUNS,
    "> x\n",
    "_",
    "\\",
    "(",
    "[",
    "<a@",
    "1 ",
    "x.",
    "re: ",
    "=?a?q?",
    "\t",
    "*",
    "A: b\n",
    "On 1\n",
    "1\n",
    "From ",
]
UNITS += ["word ", "\n\n", "a \n", ";", '\\"', "é", "<a", "Am " + "schrieb " * 240 + "\n"]
UNITS += ["-----BEGIN PGP SIGNED MESSAGE-----\n", "-----BEGIN PGP MESSAGE-----\n"]
# A pattern may fail late only after one of these.
BEGINNINGS = ["On ", "From: ", "re", ">", "<", '"', ",", "-----BEGIN PGP MESSAGE-----", "score:", "www.", "A1", "{"]


def patterns() -> Iterator[tuple[str, re.Pattern]]:
    """All of the two packages: those that have a name, and those that stand in a call."""
    for package in (revinst.corpus, revinst.data):
        for found in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{found.name}")
            for name, value in vars(module).items():
                if isinstance(value, re.Pattern):
                    yield f"{found.name}.{name}", value
            for node in ast.walk(ast.parse(inspect.getsource(module))):
                is_call = isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.") and node.args
                if is_call and isinstance(node.args[0], ast.Constant):
                    yield f"{found.name}:{node.lineno}", re.compile(node.args[0].value)


ALL_PATTERNS = dict(patterns())


def test_patterns_were_found():
    assert len(ALL_PATTERNS) > 40 and sum(":" in name for name in ALL_PATTERNS) > 8


@pytest.mark.parametrize("name", ALL_PATTERNS)
def test_every_pattern_is_linear(name):
    """However it is used: it is tried at each place of a text."""
    pattern = ALL_PATTERNS[name]

    def work(text: str) -> None:
        given = text.encode() if isinstance(pattern.pattern, bytes) else text
        for _ in pattern.finditer(given):
            pass

    for beginning, unit in [*product([""], UNITS), *product(BEGINNINGS, RUNS)]:
        assert_linear(work, unit, beginning, 2 * LENGTH // 5)


WORK = {
    "strip_quotes": strip_quotes,
    "join_flowed": join_flowed,
    "html_to_text": html_to_text,
    "redact": lambda text: Redaction(["Zoe Quark"]).redact(text),
    "read_tweet": lambda text: read_tweet({"full_text": text}, "here"),
}


@pytest.mark.parametrize("name", WORK)
def test_every_stage_is_linear(name):
    for unit in UNITS:
        assert_linear(WORK[name], unit)


HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "References", "X-Gmail-Labels", "Content-Type",
           "Content-Disposition", "Content-Transfer-Encoding"]  # fmt: skip
BEFORE = {"From": "<", "Subject": "re", "Content-Type": 'text/plain; a="', "Content-Disposition": "inline; "}


@pytest.mark.parametrize("header", HEADERS)
def test_every_header_is_linear(header):
    """Also through the standard library, which takes parameters and encoded words apart in quadratic time."""
    for unit in (unit for unit in UNITS if "\n" not in unit):
        for before in {"", BEFORE.get(header, "")}:
            assert_linear(lambda text: read(f"{header}: {text}\nFrom: alex@example.com\n\nx".encode()), unit, before)


def test_a_long_word_in_a_header(tmp_path):
    assert seconds(lambda: read(mail(b"To: " + b"x" * 45_000 + b"\n"))) < 0.5
    with pytest.raises(UserError, match="none of its 1 texts"):
        (tmp_path / "x.eml").write_bytes(b"From: " + b"x" * 45_000 + b"\n\nx")
        build_texts(tmp_path / "out", Reading(tmp_path / "x.eml", tuple(ME)))
