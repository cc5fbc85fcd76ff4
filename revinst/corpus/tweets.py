"""What somebody wrote in an archive of Twitter/X."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from revinst.corpus.kind import Kind
from revinst.corpus.texts import Ingested, Message, NotKept
from revinst.errors import UserError

TWEET_FILES = re.compile(r"tweets?(?:-part\d+)?\.js")
PICTURE = re.compile(r"https://t\.co/\w+\Z")  # or a quoted tweet
ANSWERED = re.compile(r"\A(?:@\w+\s+)+")


def is_tweets(path: Path) -> bool:
    return bool(TWEET_FILES.fullmatch(path.name)) and path.is_file()


def read_tweets(path: Path, where: str) -> Iterator[Ingested]:
    for number, tweet in enumerate(load_tweets(path), start=1):
        yield read_tweet(tweet, f"{where}#{number}")


def load_tweets(path: Path) -> list[Any]:
    """The tweets of `window.YTD.tweets.part0 = [...]`, unchecked. Raises UserError."""
    content = path.read_text(encoding="utf-8-sig", errors="replace")
    try:
        entries = json.loads(content[content.index("=") + 1 :].strip().rstrip(";"))
        return [entry.get("tweet", entry) for entry in entries]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a tweets.js of a Twitter/X archive ({error})") from None


def read_tweet(tweet: object, where: str) -> Ingested:
    if not isinstance(tweet, dict) or not isinstance(tweet.get("full_text") or tweet.get("text"), str):
        return NotKept(where, "not a tweet")
    text = tweet.get("full_text") or tweet["text"]
    if text.startswith("RT @") or tweet.get("retweeted") is True:
        return NotKept(where, "a retweet")
    text = PICTURE.sub("", ANSWERED.sub("", text).rstrip())
    for escaped, character in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(escaped, character)
    answered = tweet.get("in_reply_to_status_id_str")
    return Message(
        where,
        text.strip(),
        "post",
        date=read_tweet_date(tweet.get("created_at")),
        conversation=f"tweet {tweet.get('id_str', where)}",
        answers=(f"tweet {answered}",) if answered else (),
    )


def read_tweet_date(value: object) -> str:
    """`Mon Mar 02 10:00:00 +0000 2026`"""
    try:
        return datetime.strptime(str(value), "%a %b %d %H:%M:%S %z %Y").astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):  # at an end of the calendar, UTC is beyond it
        return ""


KINDS = (
    Kind(
        "Twitter/X",
        "`tweets.js`",
        "posts, without retweets",
        "Settings, Your account, Download an archive of your data",
        is_tweets,
        read_tweets,
    ),
)
