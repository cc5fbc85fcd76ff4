"""Which reader of chats a file or folder is for; a new kind of export is a line here and a file beside this one."""

from collections.abc import Callable, Iterator
from pathlib import Path

from revinst.corpus.chats.google import is_google_chat, is_hangouts, read_google_chat, read_hangouts
from revinst.corpus.chats.slack import is_slack, is_slack_day, read_slack, read_slack_day
from revinst.corpus.chats.whatsapp import is_whatsapp, read_whatsapp
from revinst.corpus.texts import Ingested

ReadChat = Callable[[Path, str], Iterator[Ingested]]
READERS: tuple[tuple[Callable[[Path], bool], ReadChat], ...] = (
    (is_slack, read_slack),
    (is_slack_day, read_slack_day),
    (is_google_chat, read_google_chat),
    (is_hangouts, read_hangouts),
    (is_whatsapp, read_whatsapp),
)


def find_chat_reader(path: Path) -> ReadChat | None:
    return next((read for fits, read in READERS if fits(path)), None)
