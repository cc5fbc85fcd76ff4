"""All kinds of exports, the first that fits a path reads it; a new one is a line here and a file that names it."""

from pathlib import Path

from revinst.corpus import tweets
from revinst.corpus.chats import (
    assistants,
    discord,
    google,
    meta,
    networks,
    notes,
    pages,
    phones,
    signal,
    slack,
    telegram,
    whatsapp,
)
from revinst.corpus.documents.kinds import BLOGS, DOCUMENTS
from revinst.corpus.kind import Kind

# Each told by what it holds, so that no two fit the same path.
KINDS: tuple[Kind, ...] = (
    *slack.KINDS,
    *google.KINDS,
    *meta.KINDS,
    *telegram.KINDS,
    *assistants.KINDS,
    *phones.KINDS,
    *discord.KINDS,
    *signal.KINDS,
    *whatsapp.KINDS,
    *networks.KINDS,
    *notes.KINDS,
    *pages.KINDS,
    *tweets.KINDS,
    *BLOGS,
)
ALL_KINDS = (*KINDS, *DOCUMENTS)


def find_kind(path: Path) -> Kind | None:
    return next((kind for kind in ALL_KINDS if kind.fits(path)), None)
