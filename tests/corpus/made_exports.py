"""Small exports as services write them, of one Alex Moreau, who does not exist; Kim Ode wrote THEIRS in each."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import quoteattr

MINE, MINE_TOO, THEIRS = (
    "Are you coming on Saturday? ☕",
    "Then I bring the café's chairs.",
    "My knee hurts, said nobody.",
)
DATE, SECONDS = "2026-03-02T10:00:00+00:00", 1772445600
ALEX, KIM = "Alex Moréau", "Kim Ode"


@dataclass
class Export:
    """One file of an export: its name, its content, whom it calls me ("" where it is mine alone or says so)."""

    name: str
    content: str
    me: str = ""
    num_others: int = 1  # left out
    texts: tuple[str, ...] = (MINE, MINE_TOO)
    one_conversation: bool = True
    beside: dict[str, str] = field(default_factory=dict)  # files of the same archive


EXPORTS: dict[str, Callable[[], Export]] = {}


def made(function: Callable[[], Export]) -> Callable[[], Export]:
    EXPORTS[function.__name__] = function
    return function


def write_export(folder: Path, export: Export) -> Path:
    """The path of the file itself."""
    for name, content in [*export.beside.items(), (export.name, export.content)]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return path


def as_meta(value: object) -> str:
    """As Facebook writes it: each byte of UTF-8 is a character."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return "".join(f"\\u{byte:04x}" if byte > 127 else chr(byte) for byte in text.encode())


@made
def messenger() -> Export:
    def message(name: str, seconds: int, **fields: object) -> dict:
        return {"sender_name": name, "timestamp_ms": (SECONDS + seconds) * 1000, **fields}

    messages = [
        message(KIM, 50, content=f"{KIM} sent a photo."),
        message(ALEX, 40, photos=[{"uri": "p.jpg"}]),
        message(ALEX, 30, content="Liked a message"),
        message(ALEX, 20, content=f"{ALEX} named the group Chairs."),
        message(ALEX, 15, content=MINE_TOO),
        message(KIM, 10, content=THEIRS, reactions=[{"reaction": "❤", "actor": ALEX}]),
        message(ALEX, 0, content=MINE),
    ]
    whole = {"participants": [{"name": KIM}, {"name": ALEX}], "messages": messages, "title": KIM}
    whole |= {"is_still_participant": True, "thread_path": "inbox/kimode_1", "magic_words": []}
    return Export("messages/inbox/kimode_1/message_1.json", as_meta(whole), ALEX, 5)


@made
def messenger_encrypted() -> Export:
    def message(name: str, seconds: int, text: str, unsent: bool = False) -> dict:
        fields = {"isUnsent": unsent, "media": [], "reactions": [], "senderName": name, "text": text}
        return fields | {"timestamp": (SECONDS + seconds) * 1000, "type": "text"}

    messages = [message(ALEX, 0, MINE), message(KIM, 1, THEIRS), message(ALEX, 2, MINE_TOO), message(ALEX, 3, "", True)]
    whole = {"participants": [ALEX, KIM], "threadName": f"{KIM}_2", "messages": messages}
    return Export("Kim Ode_2.json", json.dumps(whole), ALEX, 2)


@made
def facebook_posts() -> Export:
    entries = [
        {"timestamp": SECONDS, "data": [{"post": MINE}], "title": f"{ALEX} updated his status."},
        {"timestamp": SECONDS, "attachments": [{"data": [{"media": {"uri": "p.jpg"}}]}], "data": []},
        {"timestamp": SECONDS, "data": [{"post": THEIRS}], "title": f"{KIM} wrote on your timeline."},
        {"timestamp": SECONDS, "attachments": [], "data": [{"post": MINE_TOO}, {"update_timestamp": 1}]},
    ]
    return Export("your_posts_1.json", as_meta(entries), "", 2, one_conversation=False)


@made
def facebook_comments() -> Export:
    def comment(author: str, text: str) -> dict:
        data = {"comment": {"timestamp": SECONDS, "comment": text, "author": author}}
        return {"timestamp": SECONDS, "data": [data], "title": f"{author} commented on a post."}

    whole = {"comments_v2": [comment(ALEX, MINE), comment(KIM, THEIRS), comment(ALEX, MINE_TOO)]}
    return Export("comments.json", as_meta(whole), ALEX, one_conversation=False)


@made
def instagram_posts() -> Export:
    media = [{"uri": "media/1.jpg", "creation_timestamp": SECONDS, "title": MINE}]
    carousel = [{"uri": "media/2.jpg", "creation_timestamp": SECONDS, "title": ""}] * 2
    entries = [{"media": media}, {"media": carousel, "title": MINE_TOO, "creation_timestamp": SECONDS}]
    entries += [{"media": carousel}]
    return Export("posts_1.json", as_meta(entries), "", 1, one_conversation=False)


@made
def instagram_comments() -> Export:
    def comment(text: str) -> dict:
        fields = {"Comment": {"value": text}, "Media Owner": {"value": "kim.ode"}, "Time": {"timestamp": SECONDS}}
        return {"media_list_data": [{"uri": ""}], "string_map_data": fields}

    return Export("post_comments_1.json", as_meta([comment(MINE), comment(MINE_TOO)]), "", 0, one_conversation=False)


@made
def threads() -> Export:
    """A post, an answer, and a picture alone."""
    app = {"text_app_post": {"reply_control": "everyone", "is_reply": True}, "cross_post_source": {"source_app": "FB"}}
    post = {"media": [{"uri": "", "creation_timestamp": SECONDS, "title": MINE} | app]}
    picture = {"media": [{"uri": "media/1.jpg", "creation_timestamp": SECONDS, "title": ""} | app]}
    answer = {"title": MINE_TOO, "creation_timestamp": SECONDS, "media": picture["media"]}
    whole = {"text_post_app_text_posts": [post, answer, picture]}
    return Export("threads_and_replies.json", as_meta(whole), "", 1, one_conversation=False)


def telegram_messages() -> list[dict]:
    def message(number: int, name: str, text: object, **fields: object) -> dict:
        basic = {"id": number, "type": "message", "date": "2026-03-02T11:00:00", "date_unixtime": str(SECONDS)}
        return basic | {"from": name, "from_id": f"user{len(name)}", "text": text, "text_entities": []} | fields

    marked = [
        "Then I ",
        {"type": "bold", "text": "bring"},
        " the café's chairs.",
        {"type": "blockquote", "text": THEIRS},
    ]
    return [
        {"id": 1, "type": "service", "date_unixtime": "1", "actor": ALEX, "action": "create_group", "text": ""},
        message(2, ALEX, MINE),
        message(3, KIM, THEIRS),
        message(4, ALEX, THEIRS, forwarded_from=KIM),
        message(5, ALEX, "", photo="photos/1.jpg"),
        message(6, ALEX, marked, reply_to_message_id=3),
    ]


@made
def telegram_chat() -> Export:
    whole = {"name": KIM, "type": "personal_chat", "id": 7, "messages": telegram_messages()}
    return Export("result.json", json.dumps(whole, ensure_ascii=False, indent=1), f"user{len(ALEX)}", 4)


@made
def telegram_without_contacts() -> Export:
    return telegram(0)


@made
def telegram(num_contacts: int = 2000) -> Export:
    contacts = [{"first_name": f"Contact {n}", "phone_number": f"0049 {n}"} for n in range(num_contacts)]
    chat = {"name": KIM, "type": "personal_chat", "id": 7, "messages": telegram_messages()}
    whole = {
        "about": "Here is the data you requested.",
        "personal_information": {"user_id": 1, "first_name": "Alex", "bio": ""},
        "contacts": {"about": "", "list": contacts},
        "chats": {
            "about": "",
            "list": [chat],
        },
        "left_chats": {"about": "", "list": []},
    }
    return Export("result.json", json.dumps(whole, indent=1), ALEX, 4)


@made
def chatgpt() -> Export:
    def node(name: str, parent: str | None, role: str, parts: list, kind: str = "text", **fields: object) -> dict:
        message = {"id": name, "author": {"role": role, "name": None}, "create_time": SECONDS + 0.5}
        message |= {"content": {"content_type": kind, "parts": parts}, "metadata": {}} | fields
        return {"id": name, "message": message, "parent": parent, "children": []}

    nodes = [
        {"id": "root", "message": None, "parent": None, "children": ["a"]},
        node("s", "root", "system", [""]),
        node("i", "s", "user", ["I like tea."], "user_editable_context"),
        node("old", "i", "user", ["Are you coming on Sunday?"]),
        node("a", "i", "user", [MINE]),
        node("b", "a", "assistant", [THEIRS]),
        node("c", "b", "user", [{"content_type": "image_asset_pointer"}, MINE_TOO], "multimodal_text"),
        node("d", "c", "tool", [THEIRS]),
    ]
    whole = {"title": "Chairs", "create_time": SECONDS, "update_time": SECONDS, "mapping": {n["id"]: n for n in nodes}}
    whole |= {"moderation_results": [], "current_node": "d", "conversation_id": "c1"}
    return Export("conversations.json", json.dumps([whole]), "", 5)


@made
def claude() -> Export:
    def message(sender: str, text: str) -> dict:
        content = [{"type": "text", "text": text}, {"type": "tool_result", "text": THEIRS}]
        dated = {"created_at": "2026-03-02T10:00:00.123456Z", "updated_at": "2026-03-02T10:00:00.123456Z"}
        attachments = [{"file_name": "a.txt", "extracted_content": THEIRS}]
        return {"uuid": text, "text": text, "content": content, "sender": sender, "attachments": attachments} | dated

    messages = [message("human", MINE), message("assistant", THEIRS), message("human", MINE_TOO)]
    whole = {"uuid": "1", "name": "Chairs", "created_at": "2026-03-02T10:00:00Z", "updated_at": "2026-03-02T10:00:00Z"}
    return Export("conversations.json", json.dumps([whole | {"account": {"uuid": "2"}, "chat_messages": messages}]))


def as_csv(*rows: dict[str, str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@made
def sms() -> Export:
    def sms(way: int, body: str) -> str:
        basic = f'protocol="0" address="+491705550123" date="{SECONDS}000" type="{way}" subject="null"'
        return f'  <sms {basic} body={quoteattr(body)} read="1" status="-1" contact_name="{KIM}" />'

    parts = (
        f'<parts><part seq="-1" ct="application/smil" text="&lt;smil/&gt;" />'
        f'<part seq="0" ct="text/plain" text={quoteattr(MINE_TOO)} /></parts>'
    )
    mms = f'  <mms date="{SECONDS}000" msg_box="2" address="+491705550123" contact_name="{KIM}">{parts}</mms>'
    emoji = sms(2, MINE).replace("☕", "&#55357;&#56832;")
    lines = [emoji, sms(1, THEIRS), sms(3, "Not sent."), mms, sms(2, ""), sms(5, "Failed.")]
    content = "\n".join(["<?xml version='1.0' encoding='UTF-8' standalone='yes' ?>", '<smses count="6">', *lines])
    return Export("sms-20260302.xml", content + "\n</smses>", "", 4, texts=(MINE.replace("☕", "😀"), MINE_TOO))


@made
def imazing() -> Export:
    def row(way: str, text: str, sender: str = "") -> dict[str, str]:
        basic = {"Chat Session": KIM, "Message Date": "2026-03-02 10:00:00", "Service": "iMessage", "Type": way}
        return basic | {"Sender ID": "", "Sender Name": sender, "Text": text, "Attachment": ""}

    rows = [
        row("Outgoing", MINE),
        row("Incoming", THEIRS, KIM),
        row("Notification", f"{KIM} left."),
        row("Outgoing", ""),
    ]
    return Export("Messages - Kim Ode.csv", as_csv(*rows, row("Outgoing", MINE_TOO)), "", 3)


@made
def imessage() -> Export:
    lines = [
        "Mar 02, 2026  10:00:00 AM (Read by them after 5 seconds)",
        "Me",
        MINE,
        "Tapbacks:",
        f"    Loved by {KIM}",
        f"    Mar 02, 2026 10:00:30 AM\n    {KIM}\n    {THEIRS}\n",
        f"Mar 02, 2026 10:00:31 AM\n{KIM}\n{THEIRS}\nThis message responded to an earlier message.\n",
        f"Mar 02, 2026 10:00:40 AM {KIM} renamed the conversation to {THEIRS}\n",
        "Mar 02, 2026 10:00:50 AM\nMe\n/Users/alex/Library/Messages/Attachments/1/p.jpeg\n",
        f"Mar 02, 2026 10:00:55 AM\nMe\n{MINE_TOO}\nEdited 5 seconds later: {MINE_TOO}\n",
    ]
    return Export("+491705550123.txt", "\n".join(lines), "", 3)


@made
def discord() -> Export:
    def message(text: str, second: int) -> dict:
        return {"ID": second, "Timestamp": f"2026-03-02 10:00:{second:02}", "Contents": text, "Attachments": ""}

    messages = [message(f"> {THEIRS}\n<@123456789> {MINE_TOO}", 30), message("", 20), message(MINE, 10)]
    return Export("messages/c1/messages.json", json.dumps(messages), "", 1)


@made
def discord_table() -> Export:
    basic = {"ID": "1", "Timestamp": "2026-03-02 10:00:00.123000+00:00", "Attachments": ""}
    rows = [basic | {"Contents": text} for text in (MINE, f"> {THEIRS}\n{MINE_TOO}")]
    return Export("messages/c1/messages.csv", as_csv(*rows), "", 0)


@made
def discord_exporter() -> Export:
    def message(number: int, name: str, text: str, kind: str = "Default", **fields: object) -> dict:
        author = {"id": str(len(name)), "name": name.split(maxsplit=1)[0].lower(), "nickname": name, "isBot": False}
        dated = {"id": str(number), "type": kind, "timestamp": "2026-03-02T11:00:00.5+01:00"}
        return dated | {"content": text, "author": author, "attachments": []} | fields

    messages = [
        message(1, ALEX, MINE),
        message(2, KIM, THEIRS),
        message(3, ALEX, "Pinned a message.", "ChannelPinnedMessage"),
        message(4, ALEX, MINE_TOO, "Reply", reference={"messageId": "2"}),
    ]
    whole = {"guild": {"id": "0", "name": "Direct Messages"}, "channel": {"id": "1", "type": "DirectTextChat"}}
    whole |= {"dateRange": {"after": None, "before": None}, "exportedAt": DATE, "messages": messages}
    return Export("Direct Messages - Kim.json", json.dumps(whole), ALEX, 2)
