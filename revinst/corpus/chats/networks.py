"""Posts, comments and messages of Mastodon, Reddit and LinkedIn."""

import re
from collections.abc import Iterator
from pathlib import Path

from revinst.corpus.chats.csv_files import Row, has_columns, read_in_order, read_rows, read_utc
from revinst.corpus.chats.json_files import begins_with, drop_quotes, object_in, text_in
from revinst.corpus.chats.json_stream import read_items
from revinst.corpus.kind import Kind
from revinst.corpus.mail_text import html_to_text
from revinst.corpus.tables import read_iso
from revinst.corpus.texts import Ingested, Message

ANSWERED = re.compile(r"\A(?:@[\w.-]{1,100}(?:@[\w.-]{1,100})?\s{1,9}){1,50}")  # who is answered, at the beginning
SPAN = re.compile(r"</?span\b[^<>]{0,1000}>")  # inside of names, tags and links
THREAD = re.compile(r"/comments/(\w{1,20})")
GONE = ("[deleted]", "[removed]")


def is_mastodon(path: Path) -> bool:
    return begins_with(path, "{", "@context", "OrderedCollection", "orderedItems")


def read_mastodon(path: Path, where: str) -> Iterator[Ingested]:
    for number, item in enumerate(read_items(path, "orderedItems"), start=1):
        here, note = f"{where}#{number}", object_in(item, "object")
        text = ANSWERED.sub("", html_to_text(SPAN.sub("", "".join(text_in(note, "content")))).strip()) if note else ""
        is_own = item.get("type") == "Create"
        yield Message(
            here,
            text.strip(),
            "post",
            date=read_iso(note.get("published") or item.get("published")),
            conversation=next(iter(text_in(note, "id")), here),
            answers=text_in(note, "inReplyTo", "conversation"),
            left_out=("" if text.strip() else "no text in it, only attachments") if is_own else "a boost",
        )


def is_reddit(path: Path) -> bool:
    """Comments and posts."""
    return any(has_columns(path, "id", "permalink", "date", "subreddit", "body", name) for name in ("parent", "title"))


def is_reddit_messages(path: Path) -> bool:
    return has_columns(path, "id", "date", "thread_id", "from", "to", "subject", "body")


def is_reddit_chat(path: Path) -> bool:
    return has_columns(path, "message_id", "created_at", "username", "message", "channel_url")


def read_reddit(path: Path, where: str) -> Iterator[Ingested]:
    def read_row(row: Row, here: str) -> Message:
        text, found = row["body"].strip(), THREAD.search(row["permalink"])
        return Message(
            here,
            drop_quotes(text),
            "post",
            date=read_utc(row["date"]),
            conversation=f"reddit {found[1]}" if found else here,
            left_out="deleted" if text in GONE else "" if text else "no text in it, only a title",
        )

    yield from read_rows(path, where, read_row)


def read_reddit_messages(path: Path, where: str) -> Iterator[Ingested]:
    def read_row(row: Row, here: str) -> Message:
        author = (row["from"].strip() or "Reddit",)
        text, date = drop_quotes(row["body"]), read_utc(row["date"])
        return Message(here, text, "chat", author, "Reddit's messages", date, f"{where}#{row['thread_id']}", (), author)

    yield from read_in_order(path, where, read_row)


def read_reddit_chat(path: Path, where: str) -> Iterator[Ingested]:
    def read_row(row: Row, here: str) -> Message:
        author = (row["username"].strip() or "Reddit",)
        text, date, channel = row["message"].strip(), read_utc(row["created_at"]), f"{where}#{row['channel_url']}"
        return Message(here, text, "chat", author, "Reddit's messages", date, channel, (), author)

    yield from read_in_order(path, where, read_row)


def is_linkedin_messages(path: Path) -> bool:
    return has_columns(path, "CONVERSATION ID", "FROM", "TO", "DATE", "CONTENT")


def is_linkedin_posts(path: Path) -> bool:
    return has_columns(path, "Date", "ShareLink", "ShareCommentary")


def is_linkedin_comments(path: Path) -> bool:
    return has_columns(path, "Date", "Link", "Message", only=True)


def read_linkedin_messages(path: Path, where: str) -> Iterator[Ingested]:
    def read_row(row: Row, here: str) -> Message:
        text = row["CONTENT"].strip()
        text = html_to_text(text).strip() if text.startswith("<p") else text
        author = (row["FROM"].strip() or "LinkedIn",)
        date, thread = read_utc(row["DATE"]), f"{where}#{row['CONVERSATION ID']}"
        return Message(here, text, "chat", author, "LinkedIn's messages", date, thread, (), author)

    yield from read_in_order(path, where, read_row)


def read_linkedin_posts(path: Path, where: str) -> Iterator[Ingested]:
    """A line's end in them is written as `"` at its end and at the beginning of the next."""

    def read_row(row: Row, here: str) -> Message:
        text = row.get("ShareCommentary") or row.get("Message") or ""
        text = text.replace('"\n"', "\n").strip().removeprefix('"').removesuffix('"')
        left_out = "" if text else "no text in it, only a link"
        return Message(here, text, "post", date=read_utc(row["Date"]), conversation=here, left_out=left_out)

    yield from read_rows(path, where, read_row)


REDDIT, LINKEDIN = "reddit.com/settings/data-request", "Settings, Data privacy, Get a copy of your data"
KINDS = (
    Kind(
        "Mastodon",
        "JSON: `@context`, `OrderedCollection`, `orderedItems`",
        "posts, without boosts and the names that an answer begins with",
        "Preferences, Import and export, Request your archive (`outbox.json`)",
        is_mastodon,
        read_mastodon,
    ),
    Kind(
        "Reddit comments and posts",
        "CSV: `id`, `permalink`, `date`, `subreddit`, `body`, and `parent` or `title`",
        "comments and the text of posts, without quotes",
        REDDIT,
        is_reddit,
        read_reddit,
    ),
    Kind(
        "Reddit messages",
        "CSV: `id`, `date`, `thread_id`, `from`, `to`, `subject`, `body`",
        "messages of yours, without quotes",
        REDDIT,
        is_reddit_messages,
        read_reddit_messages,
    ),
    Kind(
        "Reddit chats",
        "CSV: `message_id`, `created_at`, `username`, `message`, `channel_url`",
        "messages of yours",
        REDDIT,
        is_reddit_chat,
        read_reddit_chat,
    ),
    Kind(
        "LinkedIn messages",
        "CSV: `CONVERSATION ID`, `FROM`, `TO`, `DATE`, `CONTENT`",
        "messages of yours",
        LINKEDIN,
        is_linkedin_messages,
        read_linkedin_messages,
    ),
    Kind(
        "LinkedIn posts",
        "CSV: `Date`, `ShareLink`, `ShareCommentary`",
        "posts, without those that are a link alone",
        LINKEDIN,
        is_linkedin_posts,
        read_linkedin_posts,
    ),
    Kind(
        "LinkedIn comments",
        "CSV: `Date`, `Link`, `Message` and nothing else",
        "comments",
        LINKEDIN,
        is_linkedin_comments,
        read_linkedin_posts,
    ),
)
