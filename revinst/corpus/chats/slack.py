"""Slack's export of a workspace: users.json, and a folder a channel with a file a day in it."""

import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from revinst.corpus.chats.json_files import (
    Fields,
    begins_with,
    dicts_in,
    drop_quotes,
    load_json,
    object_in,
    read_seconds,
    text_in,
)
from revinst.corpus.kind import Kind
from revinst.corpus.texts import Ingested, Message, NotKept
from revinst.errors import UserError

WRITTEN = ("", "thread_broadcast", "me_message", "file_share", "reply_broadcast")  # other subtypes are notices
# <@U1>, <@U1|alex>, <#C1|general>, <!here>, <https://example.com|label>
MARKUP = re.compile(r"<([@#!]?)([^<>|]{0,3000})(?:\|([^<>]{0,3000}))?>")


def is_slack(path: Path) -> bool:
    return begins_with(path / "users.json", "[{", "id", "name") and any(path.glob("*/*.json"))


def is_slack_day(path: Path) -> bool:
    return begins_with(path, "[{", "type", "ts") and begins_with(path, "[{", "text", "user")


def read_slack(folder: Path, where: str) -> Iterator[Ingested]:
    """All channels, groups and direct messages."""
    users = {str(user.get("id")): read_user(user) for user in dicts_in(load_json(folder / "users.json"))}
    for channel in sorted(path for path in folder.iterdir() if path.is_dir()):
        for day in sorted(channel.glob("*.json")):
            here = f"{where}/{channel.name}/{day.name}"
            try:
                yield from read_messages(day, here, f"{where}/{channel.name}", users)
            except UserError:
                yield NotKept(here, "not JSON")


def read_slack_day(path: Path, where: str) -> Iterator[Ingested]:
    """A file without the export around it: authors have ids alone."""
    yield from read_messages(path, where, where.rpartition("/")[0] or where, {})


def read_messages(
    path: Path, where: str, conversation: str, users: Mapping[str, tuple[str, ...]]
) -> Iterator[Ingested]:
    for number, message in enumerate(dicts_in(load_json(path)), start=1):
        user = str(message.get("user") or message.get("bot_id") or "")
        author = users.get(user) or text_in(object_in(message, "user_profile"), "real_name", "name")
        author = tuple(dict.fromkeys((*author, user or "a bot")))
        text = message.get("text")
        thread = message.get("thread_ts")
        is_written = str(message.get("subtype") or "") in WRITTEN and isinstance(text, str)
        yield Message(
            f"{where}#{number}",
            drop_quotes(clean_markup(str(text), users)) if is_written else "",
            "chat",
            author,
            "the Slack export",
            read_seconds(message.get("ts")),
            conversation,
            answers=(f"{conversation}\0{thread}",) if thread else (),
            names=author,
            left_out="" if is_written else "a notice, not a text",
            id=f"{conversation}\0{message.get('ts')}",
            reply_to=f"{conversation}\0{thread}" if thread and thread != message.get("ts") else "",
        )


def read_user(user: Fields) -> tuple[str, ...]:
    """Names, id and address: the first is the one that people know."""
    profile = object_in(user, "profile")
    names = (*text_in(profile, "real_name", "display_name"), *text_in(user, "real_name", "name", "id"))
    return tuple(dict.fromkeys((*names, *text_in(profile, "email"))))


def clean_markup(text: str, users: Mapping[str, tuple[str, ...]]) -> str:
    """As people see it."""

    def show(match: re.Match[str]) -> str:
        sign, target, label = match.groups()
        if sign == "@":
            return "@" + (label or users.get(target, (target,))[0])
        return ("@" if sign == "!" else sign) + (label or target)

    return html.unescape(MARKUP.sub(show, text))


KINDS = (
    Kind(
        "Slack",
        "a folder with `users.json` and a folder a channel",
        "messages of yours, without notices and quotes",
        "an administrator's Tools & settings, Workspace settings, Import/Export Data, Export",
        is_slack,
        read_slack,
    ),
    Kind(
        "Slack, a day alone",
        "JSON: a list with `type`, `user`, `text`, `ts`",
        "the same; people have ids alone",
        "a file of the export",
        is_slack_day,
        read_slack_day,
    ),
)
