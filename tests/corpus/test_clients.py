"""Mails as programs write them in many languages: what I wrote stays, and nothing of others."""

import pytest

from revinst.corpus.mail import read_mail
from revinst.corpus.quotes import strip_quotes
from tests.corpus.made_clients import INTRODUCTIONS, LOCALES, ME, make_mails

OWN, THEIRS = "Thanks, Saturday suits me.\n\nI will bring both ladders.", "My knee hurts since Monday."


def test_answers_in_ten_languages():
    failed, count = {}, 0
    for name, mail, own, theirs in make_mails():
        found = read_mail(mail.encode(), "a.eml", frozenset([ME])).text
        count += 1
        if squeeze(found) != squeeze(own) or any(squeeze(each) in squeeze(found) for each in theirs):
            failed[name] = found
    assert not failed and count == 20 * len(LOCALES) == 200


@pytest.mark.parametrize("name", INTRODUCTIONS)
def test_introductions_of_programs_and_languages(name):
    """Above what is marked as quoted, and above what is not."""
    above = f"{OWN}\n\n{INTRODUCTIONS[name]}\n"
    people = ("Kim Ode", "Alex Moreau")
    assert strip_quotes(f"{above}> {THEIRS}\n", people) == strip_quotes(f"{above}\n{THEIRS}\n", people) == OWN


def squeeze(text):
    return "".join(text.split())
