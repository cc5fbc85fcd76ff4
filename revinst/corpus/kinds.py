"""All kinds of exports, the first that fits a path reads it; a new one is a line here and a file that names it."""

from pathlib import Path

from revinst.corpus import tweets
from revinst.corpus.chats import google, slack, whatsapp
from revinst.corpus.documents import kinds as documents
from revinst.corpus.kind import Kind

KINDS: tuple[Kind, ...] = (
    *slack.KINDS,
    *google.KINDS,
    *whatsapp.KINDS,
    *tweets.KINDS,
    *documents.KINDS,  # last: a suffix alone tells them
)


def find_kind(path: Path) -> Kind | None:
    return next((kind for kind in KINDS if kind.fits(path)), None)
