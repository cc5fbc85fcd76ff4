"""What identifies people goes, what does not stays, and all of it can be put back."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from revinst.corpus.redaction import Redaction
from revinst.data.redacted import restore

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
        ("我和李明说过", "我和李明说过"),  # no spaces: a known limit, see the next one
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


@pytest.mark.parametrize("text", ["1" * 100_000, "aB3" * 40_000, "a." * 50_000, "a+" * 50_000, "1 " * 50_000])
def test_long_runs_take_no_longer_than_their_letters(text):
    since = time.process_time()
    assert restore((redaction := Redaction(NAMES)).redact(text), redaction.placeholders) == text
    assert time.process_time() - since < 5


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
