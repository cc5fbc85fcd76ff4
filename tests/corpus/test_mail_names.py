"""Whom mails name: others' mails of my conversations, what I quote, whom I greet; and nobody else's."""

import pytest

from revinst.corpus.build import build_texts
from revinst.corpus.ingest import Ingest
from revinst.corpus.mail_names import last_name, read_quoted_names
from revinst.corpus.settings import Reading

ME = "alex@example.org"


def write_mails(path, *mails):
    """(sender, receivers, id, what it answers, body) of each."""
    lines = []
    for sender, to, number, answers, body in mails:
        lines += [
            "From - Mon Mar  2 10:00:00 2026",
            f"From: {sender}",
            f"To: {to}",
            f"Message-ID: <{number}@x.example>",
        ]
        lines += [f"In-Reply-To: <{answers}@x.example>"] * bool(answers) + [f"Subject: s{number}", "", body, ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_names_in_mails_of_others_where_i_answered(tmp_path):
    """Not those of a newsletter, whose words would be taken for names."""
    path = write_mails(
        tmp_path / "a.mbox",
        ("Robin Quark <r@x.org>", f"{ME}, Noor Vane <n@x.org>", 1, "", "Hello, see you on Sunday."),
        ("Harvest Weekly <h@x.org>", ME, 2, "", "Buy now."),
        (ME, "r@x.org", 3, 1, "Hi all,\n\nask Robin or Noor about the Harvest Weekly."),
        ("Sam Odell <s@x.org>", "n@x.org", 4, 3, "Yes, later in the same thread."),
    )
    found = Ingest(path, [ME])
    assert {"Robin Quark", "Sam Odell"} <= found.names and not any("Harvest" in name for name in found.names)
    (record,) = build_texts(tmp_path / "out", Reading(path, (ME,), redact=True))
    assert record["text"] == "Hi all,\n\nask [NAME_1] or [NAME_2] about the Harvest Weekly."


@pytest.mark.parametrize(
    ("introduction", "named"),
    [
        ("On Mon, 2 Mar 2026 at 09:00, Kim Ode <k@x.org> wrote:", "Kim Ode"),
        ("Am Mo., 2. März 2026 um 09:00 Uhr schrieb Kim Öde <\nk@x.org>:", "Kim Öde"),
        ("Den mån 2 mars 2026 kl 09:00 skrev Kim-Eva Ode <k@x.org>:", "Kim-Eva Ode"),
        ('On 2 Mar 2026, at 9:00, "Kim O\'Dea" <k@x.org> wrote:', "Kim O'Dea"),
        ("2026年3月2日(月) 9:00 大出 キム <k@x.org>:", "大出 キム"),
        ("-----Original Message-----\nFrom: Kim Ode [mailto:k@x.org]\nSent: Monday, March 2, 2026\nTo: me", "Kim Ode"),
    ],
)
def test_names_in_what_i_quote(introduction, named):
    body = f"Thanks!\n\n{introduction}\n> Hello"
    assert list(read_quoted_names(body, "Thanks!")) == [named]


def test_what_i_wrote_beside_an_address_names_nobody():
    own = "Write to our Sales <sales@x.org> or Kim Ode <k@x.org>."
    assert list(read_quoted_names(f"{own}\nFrom: Noor Vane <n@x.org>", own)) == ["Noor Vane"]
    assert [last_name(line) for line in ("at 9:00", "", "ask the Sales", "Re: 3 Kim")] == ["", "", "Sales", "Kim"]


@pytest.mark.parametrize(
    ("to", "text", "redacted"),
    [
        ("kim.ode@x.org", "Hi Kim,\n\nis Kim there?", "Hi [NAME_1],\n\nis [NAME_1] there?"),
        ("joerg@x.org", "Lieber Jörg,\n\ndanke.", "Lieber [NAME_1],\n\ndanke."),
        ("renee@x.org", "Chère Renée,\n\nmerci.", "Chère [NAME_1],\n\nmerci."),
        ("kim.ode@x.org", "Hi Everybody,\n\nis Kim there?", "Hi Everybody,\n\nis Kim there?"),
        ("team@x.org", "Dear Team,\n\nthe Team won.", "Dear Team,\n\nthe Team won."),
    ],
)
def test_who_is_greeted_by_a_name_in_the_address(tmp_path, to, text, redacted):
    path = write_mails(tmp_path / "a.mbox", (ME, to, 1, "", text))
    (record,) = build_texts(tmp_path / "out", Reading(path, (ME,), redact=True))
    assert record["text"] == redacted
