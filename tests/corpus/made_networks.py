"""More of `made_exports`: Signal, networks, notes and diaries."""

import json

from tests.corpus.made_exports import ALEX, KIM, MINE, MINE_TOO, SECONDS, THEIRS, Export, as_csv, made

UTC = "2026-03-02 10:00:00 UTC"


@made
def signal() -> Export:
    def item(author: str, way: str, body: str | None, **fields: object) -> dict:
        basic = {"chatId": "3", "authorId": author, "dateSent": f"{SECONDS}000", way: {}}
        standard = {"quote": {"authorId": "2", "text": {"body": THEIRS}}} | ({"text": {"body": body}} if body else {})
        return {"chatItem": basic | {"standardMessage": standard} | fields}

    frames = [
        {"version": "1", "backupTimeMs": f"{SECONDS}999"},
        {"account": {"givenName": "Alex", "familyName": "Moréau"}},
        {"recipient": {"id": "1", "self": {}}},
        {"recipient": {"id": "2", "contact": {"e164": "491705550123", "profileGivenName": "Kim"}}},
        {"chat": {"id": "3", "recipientId": "2"}},
        item("1", "directionless", MINE),
        item("2", "incoming", THEIRS),
        item("1", "outgoing", None),
        item("1", "outgoing", MINE_TOO, revisions=[item("1", "outgoing", "Then I bring them.")["chatItem"]]),
        {"chatItem": {"chatId": "3", "authorId": "1", "directionless": {}, "updateMessage": {}}},
    ]
    return Export("main.jsonl", "\n".join(map(json.dumps, frames)), "", 3)


@made
def signal_export() -> Export:
    def message(sender: str, body: str, quote: str = "") -> dict:
        basic = {"date": "2026-03-02T10:00:00", "sender": sender, "body": body, "quote": quote, "sticker": ""}
        return basic | {"reactions": [{"name": "Me", "emoji": "👍"}], "attachments": []}

    messages = [message("Me", MINE), message("Kim", THEIRS), message("Me", MINE_TOO, f"> {THEIRS}")]
    chat = f"[2026-03-02 10:00] Me: {MINE}\n[2026-03-02 10:00] Kim: {THEIRS}\n"
    return Export(
        "Kim/data.json", "\n".join(map(json.dumps, messages)), num_others=2,
        beside={"Kim/chat.md": chat},
    )  # fmt: skip


@made
def mastodon() -> Export:
    def note(number: int, html: str, **fields: object) -> dict:
        basic = {
            "id": f"https://x.example/{number}",
            "type": "Note",
            "inReplyTo": None,
            "published": "2026-03-02T10:00:00Z",
        }
        return {"id": f"{number}/activity", "type": "Create", "published": basic["published"]} | {
            "object": basic | {"content": html} | fields
        }

    answered = '<p><span class="h-card"><a href="https://y.example/@kim">@<span>kim</span></a></span> Then I bring the '
    items = [
        note(1, f"<p>{MINE}</p>"),
        {"id": "2/activity", "type": "Announce", "published": "2026-03-02T10:00:00Z", "object": "https://y.example/1"},
        {"id": "3/activity", "type": "Announce", "object": {"type": "Note", "content": f"<p>{THEIRS}</p>"}},
        note(4, f"{answered}caf&eacute;&#39;s chairs.</p>", inReplyTo="https://x.example/1"),
        note(5, "", attachment=[{"type": "Document"}]),
    ]
    whole = {"@context": "https://www.w3.org/ns/activitystreams", "id": "outbox.json", "type": "OrderedCollection"}
    return Export("outbox.json", json.dumps(whole | {"totalItems": 5, "orderedItems": items}), "", 3)


def reddit_row(body: str, number: int, **fields: str) -> dict[str, str]:
    link = f"https://www.reddit.com/r/chairs/comments/abc{number}/chairs/"
    return (
        {"id": f"t{number}", "permalink": link, "date": UTC, "ip": "", "subreddit": "chairs"} | fields | {"body": body}
    )


@made
def reddit_comments() -> Export:
    texts = (MINE, f"> {THEIRS}\n\n{MINE_TOO}", "[removed]")
    rows = [reddit_row(text, 1, gildings="0", link="l", parent="") | {"media": ""} for text in texts]
    return Export("comments.csv", as_csv(*rows))


@made
def reddit_posts() -> Export:
    rows = [reddit_row(text, number, title="Chairs", url="u") for number, text in enumerate((MINE, "", MINE_TOO))]
    return Export("posts.csv", as_csv(*rows), one_conversation=False)


@made
def reddit_messages() -> Export:
    def row(sender: str, body: str) -> dict[str, str]:
        basic = {"id": "m", "permalink": "", "thread_id": "t", "date": UTC, "ip": ""}
        return basic | {"from": sender, "to": "", "subject": "Chairs", "body": body}

    return Export("messages.csv", as_csv(row(ALEX, MINE), row(KIM, THEIRS), row(ALEX, MINE_TOO)), ALEX)


@made
def reddit_chat() -> Export:
    def row(sender: str, text: str) -> dict[str, str]:
        basic = {"message_id": "m", "created_at": UTC, "updated_at": "", "username": sender, "message": text}
        return basic | {"thread_parent_message_id": "", "channel_url": "u", "subreddit": "", "channel_name": ""}

    return Export("chat_history.csv", as_csv(row(ALEX, MINE), row(KIM, THEIRS), row(ALEX, MINE_TOO)), ALEX)


@made
def linkedin_messages() -> Export:
    def row(sender: str, text: str) -> dict[str, str]:
        basic = {"CONVERSATION ID": "2-x", "CONVERSATION TITLE": "", "FROM": sender, "SENDER PROFILE URL": ""}
        return basic | {"TO": "", "DATE": UTC, "SUBJECT": "", "CONTENT": text, "FOLDER": "INBOX"}

    rows = [row(ALEX, MINE), row(KIM, f"<p>{THEIRS}</p>"), row(ALEX, f"<p>{MINE_TOO}</p>")]
    return Export("messages.csv", as_csv(*rows), ALEX)


@made
def linkedin_posts() -> Export:
    basic = {"Date": "2026-03-02 10:00:00", "ShareLink": "https://x.example"}
    texts = (f'{MINE}"\n""\n"New ones.', "", MINE_TOO)
    rows = [basic | {"ShareCommentary": text, "SharedUrl": "", "Visibility": "MEMBER_NETWORK"} for text in texts]
    return Export("Shares.csv", as_csv(*rows), texts=(f"{MINE}\n\nNew ones.", MINE_TOO), one_conversation=False)


@made
def linkedin_comments() -> Export:
    rows = [{"Date": "2026-03-02 10:00:00", "Link": "https://x.example", "Message": text} for text in (MINE, MINE_TOO)]
    return Export("Comments.csv", as_csv(*rows), "", 0, one_conversation=False)


def as_part(name: str, entries: list) -> str:
    return f"window.YTD.{name}.part0 = {json.dumps(entries, indent=2)}"


LONG = "The chairs of the old café stand in our shed, and whoever comes on Saturday may take one of them home. " * 4


@made
def tweets() -> Export:
    def tweet(number: int, text: str, **fields: object) -> dict:
        basic = {"id_str": str(number), "created_at": "Mon Mar 02 10:00:00 +0000 2026", "full_text": text}
        return {"tweet": basic | fields}

    entries = [
        tweet(1, MINE),
        tweet(2, f"RT @kim: {THEIRS}"),
        tweet(3, f"@kim {MINE_TOO}"),
        tweet(4, f"{LONG[:250]}… https://t.co/abc", in_reply_to_status_id_str="1"),
    ]
    note = {"noteTweet": {"noteTweetId": "9", "createdAt": "2026-03-02T10:00:00.000Z", "core": {"text": LONG}}}
    beside = {"data/note-tweet.js": as_part("note_tweet", [note])}
    texts = (LONG.strip(), MINE, MINE_TOO)
    return Export("data/tweets.js", as_part("tweets", entries), "", 2, texts, one_conversation=False, beside=beside)


@made
def long_tweets() -> Export:
    notes = [
        {"noteTweet": {"noteTweetId": "9", "createdAt": "2026-03-02T10:00:00.000Z", "core": {"text": text}}}
        for text in (MINE, f"@kim {MINE_TOO}")
    ]
    return Export("data/note-tweet.js", as_part("note_tweet", notes), "", 0, one_conversation=False)


def direct_messages(account: bool) -> Export:
    def message(sender: str, text: str, second: int) -> dict:
        fields = {"senderId": sender, "recipientId": "0", "text": text, "id": str(second), "mediaUrls": []}
        return {"messageCreate": fields | {"createdAt": f"2026-03-02T10:00:{second}.000Z"}}

    messages = [message("11", MINE_TOO, 30), message(KIM, THEIRS, 20), message("11", MINE, 10)]
    entries = [{"dmConversation": {"conversationId": "11-22", "messages": messages}}]
    mine = as_part("account", [{"account": {"accountId": "11", "username": "alex"}}])
    return Export(
        "data/direct-messages.js", as_part("direct_messages", entries), "" if account else "11", 1 + account,
        beside={"data/account.js": mine} if account else {},
    )  # fmt: skip


@made
def direct_messages_of_an_archive() -> Export:
    return direct_messages(account=True)


@made
def direct_messages_alone() -> Export:
    return direct_messages(account=False)


@made
def keep() -> Export:
    def note(**fields: object) -> str:
        basic = {"color": "DEFAULT", "isTrashed": False, "isPinned": False, "isArchived": False, "title": "Chairs"}
        basic |= {"userEditedTimestampUsec": SECONDS * 10**6, "createdTimestampUsec": SECONDS * 10**6}
        return json.dumps(basic | fields)

    items = [{"text": MINE, "isChecked": False}, {"text": MINE_TOO, "isChecked": True}]
    shared = note(textContent=THEIRS, sharees=[{"isOwner": True, "type": "WRITER", "email": "kim@example.com"}])
    beside = {"Keep/b.json": shared, "Keep/c.json": note(textContent=THEIRS, isTrashed=True)}
    return Export("Keep/a.json", note(listContent=items), num_others=2, texts=(f"{MINE}\n{MINE_TOO}",), beside=beside)


@made
def day_one() -> Export:
    def entry(text: str) -> dict:
        return {"uuid": "A", "creationDate": "2026-03-02T10:00:00Z", "timeZone": "Europe/Paris", "text": text}

    picture = "![](dayone-moment://ABC)"
    entries = [entry(f"{MINE}\n\n{picture}"), entry(MINE_TOO.replace(".", "\\.")), entry(picture)]
    whole = {"metadata": {"version": "1.0"}, "entries": entries}
    return Export("Journal.json", json.dumps(whole), one_conversation=False)
