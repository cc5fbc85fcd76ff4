"""What somebody wrote in an archive of Twitter/X: posts, long posts and direct messages."""

import html
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from revinst.corpus.chats.json_files import dicts_in, object_in, text_in
from revinst.corpus.kind import Kind
from revinst.corpus.tables import check_whole, read_iso
from revinst.corpus.texts import NOT_MINE, Ingested, Message, NotKept
from revinst.errors import UserError

PART = re.compile(r"\A\s{0,9}window\.YTD\.(\w{1,50})\.part\d{1,5}\s*=")
KNOWN_BY = 100  # characters of a long post
PICTURE = re.compile(r"https://t\.co/\w+\Z")  # or a quoted tweet
ANSWERED = re.compile(r"\A(?:@\w+\s+)+")


def find_part(path: Path) -> str:
    """`window.YTD.note_tweet.part0 = [` -> `note_tweet`; "" for another file."""
    if path.suffix.lower() != ".js" or not path.is_file():
        return ""
    with path.open("rb") as file:
        found = PART.match(file.read(200).decode("utf-8-sig", errors="replace"))
    return found[1] if found else ""


def is_tweets(path: Path) -> bool:
    return find_part(path) in ("tweet", "tweets", "community_tweet")


def is_long_tweets(path: Path) -> bool:
    return find_part(path) == "note_tweet"


def is_direct_messages(path: Path) -> bool:
    return find_part(path) in ("direct_messages", "direct_messages_group")


def read_tweets(path: Path, where: str) -> Iterator[Ingested]:
    """Of a long post the beginning stands here as well."""
    beginnings = {read_long_text(note)[:KNOWN_BY] for note in load_beside(path, "note-tweet*.js", "noteTweet")}
    for number, tweet in enumerate(load_part(path, "tweet"), start=1):
        found = read_tweet(tweet, f"{where}#{number}")
        if isinstance(found, Message) and found.text[:KNOWN_BY] in beginnings:
            found.left_out = "the beginning of a long post, which is read in note-tweet.js"
        yield found


def load_part(path: Path, name: str) -> list[object]:
    """The entries of `window.YTD.tweets.part0 = [...]`, unchecked. Raises UserError."""
    check_whole(path)
    content = path.read_text(encoding="utf-8-sig", errors="replace")
    try:
        entries = json.loads(content[content.index("=") + 1 :].strip().rstrip(";"))
        return [entry.get(name, entry) for entry in entries]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a {path.name} of a Twitter/X archive ({error})") from None


def load_beside(path: Path, pattern: str, name: str) -> list[object]:
    """Entries of other files of the archive; none where there is no such file, or a torn one."""
    try:
        return [entry for file in sorted(path.parent.glob(pattern)) for entry in load_part(file, name)]
    except UserError:
        return []


def read_tweet(tweet: object, where: str) -> Ingested:
    if not isinstance(tweet, dict) or not isinstance(tweet.get("full_text") or tweet.get("text"), str):
        return NotKept(where, "not a tweet")
    text = tweet.get("full_text") or tweet["text"]
    if text.startswith("RT @") or tweet.get("retweeted") is True:
        return NotKept(where, "a retweet")
    text = clean(text)
    answered = tweet.get("in_reply_to_status_id_str")
    return Message(
        where,
        text,
        "post",
        date=read_tweet_date(tweet.get("created_at")),
        conversation=f"tweet {tweet.get('id_str', where)}",
        answers=(f"tweet {answered}",) if answered else (),
    )


def clean(text: str) -> str:
    return html.unescape(PICTURE.sub("", ANSWERED.sub("", text).rstrip())).strip()


def read_long_text(note: object) -> str:
    return clean("".join(text_in(object_in(note, "core"), "text")))


def read_long_tweets(path: Path, where: str) -> Iterator[Ingested]:
    for number, note in enumerate(load_part(path, "noteTweet"), start=1):
        here, text = f"{where}#{number}", read_long_text(note)
        date = read_iso(object_in({"": note}, "").get("createdAt"))
        yield Message(here, text, "post", date=date, conversation=here, left_out="" if text else "not a tweet")


def read_direct_messages(path: Path, where: str) -> Iterator[Ingested]:
    """People have ids alone; account.js beside it says which is the owner's. Oldest first."""
    accounts = load_beside(path, "account.js", "account")
    mine = {str(account.get("accountId")) for account in accounts if isinstance(account, dict)}
    for place, conversation in enumerate(load_part(path, "dmConversation"), start=1):
        found = list(dicts_in(object_in({"": conversation}, "").get("messages")))
        for number, event in reversed(list(enumerate(found, start=1))):
            message = object_in(event, "messageCreate")
            sender = text_in(message, "senderId") or ("somebody without an id",)
            text = clean("".join(text_in(message, "text")))
            left_out = "" if text else "no text in it, only attachments" if message else "a notice, not a text"
            yield Message(
                f"{where}#{place}.{number}",
                text,
                "chat",
                () if mine else sender,
                "Twitter/X's direct messages",
                read_iso(message.get("createdAt")),
                f"{where}#{place}",
                left_out=NOT_MINE if mine and message and sender[0] not in mine else left_out,
            )


def read_tweet_date(value: object) -> str:
    """`Mon Mar 02 10:00:00 +0000 2026`"""
    try:
        return datetime.strptime(str(value), "%a %b %d %H:%M:%S %z %Y").astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):  # at an end of the calendar, UTC is beyond it
        return ""


GET = "Settings, Your account, Download an archive of your data"
KINDS = (
    Kind(
        "Twitter/X posts",
        "JavaScript: `window.YTD.tweets`, `window.YTD.community_tweet`",
        "posts, without retweets",
        GET,
        is_tweets,
        read_tweets,
    ),
    Kind(
        "Twitter/X long posts",
        "JavaScript: `window.YTD.note_tweet`",
        "long posts, in place of their beginnings among the posts",
        GET,
        is_long_tweets,
        read_long_tweets,
    ),
    Kind(
        "Twitter/X direct messages",
        "JavaScript: `window.YTD.direct_messages`, `window.YTD.direct_messages_group`",
        "messages of yours; without `account.js` beside them give your number as `--me`",
        GET,
        is_direct_messages,
        read_direct_messages,
    ),
)
