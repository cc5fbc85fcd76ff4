"""Facebook, Messenger and Instagram as JSON: messages, posts and comments.

Their older files hold UTF-8 whose bytes were written as characters each: `caf\\u00c3\\u00a9` is `café`.
"""

import re
from collections.abc import Iterator
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
from revinst.corpus.texts import NOT_MINE, Ingested, Message, NotKept

MESSENGER, INSTAGRAM_POSTS, COMMENTS = "the Messenger export", '[{"media":[', ("comments", "group_comments")
LISTS = ("comments_v2", "comments", "group_comments_v2", "group_comments", "group_posts_v2", "group_posts")
REELS, THREADS = "comments_reels_comments", "text_post_app_text_posts"
BYTE = re.compile(r"\\u00[89a-f][0-9a-f]|[\x80-\xff]", re.IGNORECASE)
BYTES = re.compile(f"(?:{BYTE.pattern}){{2,}}", re.IGNORECASE)
NOTICE = re.compile(
    r"you sent an? [\w ]{1,20}\.|you are now connected on messenger\.?|reacted \S{1,20} to your message\s*|"
    r"liked a message|you (?:missed|started) an? [\w ]{1,20}\.?|you unsent a message\.?",
    re.IGNORECASE,
)
ON_MINE = re.compile(r" (?:wrote|posted|shared .{1,40}) (?:on|to) your timeline\.?\Z")


def is_messages(path: Path) -> bool:
    return begins_with(path, "{", "participants", "messages", "sender_name", "timestamp_ms")


def is_encrypted_messages(path: Path) -> bool:
    return begins_with(path, "{", "participants", "messages", "senderName", "threadName")


def is_posts(path: Path) -> bool:
    return begins_with(path, "[{", "timestamp", "data", "post") or begins_with(
        path, tuple(f'{{"{name}":[' for name in LISTS), "timestamp", "data"
    )


def is_instagram(path: Path) -> bool:
    return (
        begins_with(path, INSTAGRAM_POSTS, "creation_timestamp")
        or begins_with(path, "[{", "string_map_data", "Comment", "Media Owner")
        or begins_with(path, f'{{"{REELS}":[', "string_map_data")
        or begins_with(path, f'{{"{THREADS}":[', "creation_timestamp")
    )


def is_list_of_labels(path: Path) -> bool:
    """What was saved, liked, searched and set: captions of others stand in it as one's own would."""
    return begins_with(path, ("[{", '{"media":['), "label_values", "label")


def repair(text: str) -> str:
    """JSON in which characters that are the bytes of another one are that one."""

    def join(run: re.Match[str]) -> str:
        found = bytes.fromhex(
            "".join(part[4:] if len(part) > 1 else f"{ord(part):02x}" for part in BYTE.findall(run[0]))
        )
        try:
            return found.decode()
        except UnicodeError:  # it is not broken
            return run[0]

    return BYTES.sub(join, text)


def read_messages(path: Path, where: str) -> Iterator[Ingested]:
    loaded = object_in({"": load_json(path, repair)}, "")
    yield from read_thread(loaded, where, ("sender_name", "content", "timestamp_ms"))


def read_encrypted_messages(path: Path, where: str) -> Iterator[Ingested]:
    """Of chats that are encrypted from end to end: other names, and nothing is broken in it."""
    yield from read_thread(object_in({"": load_json(path)}, ""), where, ("senderName", "text", "timestamp"))


def read_thread(loaded: Fields, where: str, columns: tuple[str, str, str]) -> Iterator[Ingested]:
    """Oldest first: in the file the newest is the first."""
    sender, content, date = columns
    folder = where.rpartition("/")[0] or where  # a long thread is several files in it
    conversation = next(iter(text_in(loaded, "thread_path")), folder if sender == "sender_name" else where)
    messages = sorted(enumerate(dicts_in(loaded.get("messages")), start=1), key=lambda each: str(each[1].get(date)))
    for number, message in messages:
        author = text_in(message, sender) or ("somebody without a name",)
        text = "".join(text_in(message, content))
        yield Message(
            f"{where}#{number}",
            drop_quotes(text),
            "chat",
            author,
            MESSENGER,
            read_seconds(message.get(date), 1e-3),
            conversation,
            names=author,
            left_out=why_no_text(message, text, author[0]),
        )


def why_no_text(message: Fields, text: str, author: str) -> str:
    """What the program writes begins with the author's whole name, or with You."""
    if message.get("is_unsent") is True or message.get("isUnsent") is True:
        return "deleted"
    if not text:
        return "no text in it, only attachments"
    is_notice = text.startswith(f"{author} ") or NOTICE.fullmatch(text)
    return "a notice, not a text" if is_notice or "call_duration" in message else ""


def read_posts(path: Path, where: str) -> Iterator[Ingested]:
    """Posts, and comments, which name their author."""
    loaded = load_json(path, repair)
    if isinstance(loaded, dict):
        loaded = next((loaded[name] for name in LISTS if name in loaded), [])
    for number, entry in enumerate(dicts_in(loaded), start=1):
        here = f"{where}#{number}"
        data = list(dicts_in(entry.get("data")))
        comment = next((object_in(each, "comment") for each in data if object_in(each, "comment")), {})
        texts = [*text_in(comment, "comment"), *(text for each in data for text in text_in(each, "post"))]
        is_theirs = bool(ON_MINE.search("".join(text_in(entry, "title"))))
        author = text_in(comment, "author")
        yield Message(
            here,
            "\n".join(texts[:1]).strip(),
            "post",
            author,
            "the Facebook export" if author else "",
            read_seconds(entry.get("timestamp")),
            here,
            names=author,
            left_out=NOT_MINE if is_theirs else "" if texts else "no text in it, only attachments",
        )


def read_instagram(path: Path, where: str) -> Iterator[Ingested]:
    """Captions and comments, posts of Threads."""
    loaded = load_json(path, repair)
    if isinstance(loaded, dict):
        loaded = next((loaded[name] for name in (REELS, THREADS) if name in loaded), [])
    for number, entry in enumerate(dicts_in(loaded), start=1):
        here = f"{where}#{number}"
        media = next(dicts_in(entry.get("media")), {})
        fields = object_in(entry, "string_map_data")
        texts = (
            *text_in(object_in(fields, "Comment"), "value"),
            *text_in(entry, "title"),
            *text_in(media, "title"),
        )
        date = entry.get("creation_timestamp") or media.get("creation_timestamp")
        date = date or object_in(fields, "Time").get("timestamp")
        yield Message(
            here,
            "".join(texts[:1]).strip(),
            "post",
            date=read_seconds(date),
            conversation=here,
            names=text_in(object_in(fields, "Media Owner"), "value"),
            left_out="" if texts else "no text in it, only attachments",
        )


def leave_out_labels(path: Path, where: str) -> Iterator[Ingested]:
    yield NotKept(where, "a list of what was saved, liked or set, which does not say who wrote it")


GET = "Accounts Center, Your information and permissions, Export your information, as JSON"
KINDS = (
    Kind(
        "Messenger and Instagram messages",
        "JSON: `participants`, `messages` with `sender_name`, `timestamp_ms`",
        "messages of yours, without notices; broken letters are repaired",
        GET,
        is_messages,
        read_messages,
    ),
    Kind(
        "Messenger, encrypted chats",
        "JSON: `participants`, `threadName`, `messages` with `senderName`",
        "messages of yours, without notices",
        "messenger.com, Settings, Encrypted chats, Message storage, Download",
        is_encrypted_messages,
        read_encrypted_messages,
    ),
    Kind(
        "Facebook posts and comments",
        "JSON: entries with `timestamp` and `data` with `post`, or under `comments_v2`, `group_posts_v2` and alike",
        "posts and comments of yours, not what others write on your timeline",
        GET,
        is_posts,
        read_posts,
    ),
    Kind(
        "Instagram and Threads, posts and comments",
        "JSON: entries with `media` and `creation_timestamp`, or with `string_map_data`; `text_post_app_text_posts`",
        "captions and comments, posts and replies",
        GET,
        is_instagram,
        read_instagram,
    ),
    Kind(
        "Facebook, Instagram and Threads, lists of saved and liked things",
        "JSON: entries with `label_values`",
        "nothing: others wrote most of it, and the file does not say what",
        GET,
        is_list_of_labels,
        leave_out_labels,
    ),
)
