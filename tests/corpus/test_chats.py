"""Chats of WhatsApp, Slack and Google: mine alone, by author; and not one that names nobody as me."""

import json
import zipfile

import pytest

from revinst.corpus.chats.whatsapp import is_whatsapp
from revinst.corpus.ingest import Ingest
from revinst.errors import UserError

MINE, THEIRS = "Are you coming on Saturday?", "My knee hurts."
HEADS = {
    "ios_uk": ("[02/03/2026, 10:00:00] ", "[14/03/2026, 22:01:00] "),
    "ios_us": ("[3/2/26, 10:00:00\u202fAM] ", "[3/14/26, 10:01:00\u202fPM] "),
    "ios_de": ("[02.03.26, 10:00:00] ", "[14.03.26, 22:01:00] "),
    "ios_iso": ("[2026-03-02, 10:00:00] ", "[2026-03-14, 22:01:00] "),
    "ios_ko": ("[2026. 3. 2. 오전 10:00:00] ", "[2026. 3. 14. 오후 10:01:00] "),
    "ios_zh": ("[2026/3/2 上午10:00:00] ", "[2026/3/14 下午10:01:00] "),
    "android_uk": ("02/03/2026, 10:00 - ", "14/03/2026, 22:01 - "),
    "android_us": ("3/2/26, 10:00 AM - ", "3/14/26, 10:01 PM - "),
    "android_de": ("02.03.26, 10:00 - ", "14.03.26, 22:01 - "),
    "android_es": ("2/3/26 10:00 a. m. - ", "14/3/26 10:01 p. m. - "),
    "android_pt": ("02/03/2026 10:00 - ", "14/03/2026 22:01 - "),
    "android_fr": ("02/03/2026 à 10:00 - ", "14/03/2026 à 22:01 - "),
    "android_fi": ("2.3.2026 klo 10.00 - ", "14.3.2026 klo 22.01 - "),
    "android_nl": ("02-03-2026 10:00 - ", "14-03-2026 22:01 - "),
    "android_ja": ("2026/03/02 10:00 - ", "2026/03/14 22:01 - "),
    "android_ko": ("2026년 3월 2일 오전 10:00, ", "2026년 3월 14일 오후 10:01, "),
    "android_ar": ("\u200f2/3/2026، 10:00 ص - ", "\u200f14/3/2026، 10:01 م - "),
}


def read(path, *me):
    ingest = Ingest(path, me)
    return list(ingest.texts()), [note.reason for note in ingest.not_kept]


def write_whatsapp(folder, kind, *texts):
    first, last = HEADS[kind]
    colon = " : " if kind == "android_ko" else ": "
    lines = [
        f"{first}Kim Ode{colon}\u200eMessages and calls are end-to-end encrypted.",
        f"{first}Kim Ode{colon}{THEIRS}",
    ]
    lines += [f"{last}Alex Moreau{colon}{text}" for text in texts]
    path = folder / "_chat.txt"
    path.write_text("\n".join(lines) + f"\n{last}Kim Ode{colon}Two\nlines: of theirs.\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", HEADS)
def test_whatsapp(tmp_path, kind):
    path = write_whatsapp(tmp_path, kind, MINE, "Two\nlines: of mine.")
    texts, reasons = read(path, "Alex Moreau")
    assert [text.text for text in texts] == [MINE, "Two\nlines: of mine."]
    assert {text.date for text in texts} == {"2026-03-14T22:01:00+00:00"}
    assert reasons == ["not written by me"] * 3
    assert len({text.group for text in texts}) == 1 and {text.kind for text in texts} == {"chat"}


@pytest.mark.parametrize(
    "written, left",
    [
        ("\u200eimage omitted", None),
        ("<Media omitted>", None),
        ("<Medien ausgeschlossen>", None),
        ("\u200eIMG-1.jpg (file attached)", None),
        ("IMG-1.jpg (Datei angehängt)\nThe new door.", "The new door."),
        ("The new door. \u200e<attached: 0001-PHOTO.jpg>", "The new door."),
        ("The new door. \u200e<This message was edited>", "The new door."),
        ("Du hast diese Nachricht gelöscht.", None),
        ("I <3 this, and 1 < 2 > 0", "I <3 this, and 1 < 2 > 0"),
        ("See notes (below)", "See notes (below)"),
    ],
)
def test_what_whatsapp_says_itself(tmp_path, written, left):
    texts, _ = read(write_whatsapp(tmp_path, "ios_uk", MINE, written), "Alex Moreau")
    assert [text.text for text in texts] == [MINE] + [left] * (left is not None)


def test_a_phone_number_is_a_name(tmp_path):
    path = write_whatsapp(tmp_path, "android_de", MINE)
    path.write_text(path.read_text().replace("Alex Moreau", "\u202a+49\u00a0170\u00a05550123\u202c"))
    assert [text.text for text in read(path, "+491705550123")[0]] == [MINE]


@pytest.mark.parametrize("me", [(), ("alex@example.com",)])
def test_a_chat_of_nobody_known_is_refused(tmp_path, me):
    with pytest.raises(UserError, match=r"WhatsApp.*Kim Ode.*--me"):
        Ingest(write_whatsapp(tmp_path, "ios_uk", MINE), me)


@pytest.mark.parametrize(
    "note",
    [
        "Dear diary,\n[02/03/2026, 10:00:00] Kim: she said.",
        "02/03/2026\nIt rained: all day.",
        "10:00 - Kim: coffee",
        "2026-03-02 10:00 Rain",
    ],
)
def test_a_note_is_no_chat(tmp_path, note):
    (tmp_path / "note.txt").write_text(note)
    assert not is_whatsapp(tmp_path / "note.txt")
    assert [text.text for text in read(tmp_path)[0]] == [note]


USERS = [
    {"id": "U1", "name": "alex", "profile": {"email": "alex@example.com", "real_name": "Alex Moreau"}},
    {"id": "U2", "name": "kim", "profile": {"email": "kim@example.com", "real_name": "Kim Ode"}},
]
DAY = [
    {
        "type": "message",
        "user": "U1",
        "ts": "1772445600.000100",
        "text": f"<@U2>: {MINE} <https://x.org/a|here> &amp; now",
    },
    {"type": "message", "user": "U2", "ts": "1772445660.000200", "text": THEIRS},
    {"type": "message", "user": "U1", "ts": "1772445670.0", "text": "&gt; My knee hurts.\nSorry!"},
    {"type": "message", "user": "U1", "ts": "1772445680.0", "text": "<@U1> has joined", "subtype": "channel_join"},
    {"type": "message", "bot_id": "B1", "ts": "1772445690.0", "text": "Build failed.", "subtype": "bot_message"},
    {"type": "message", "ts": "1772445690.0", "text": "Of nobody."},
]


@pytest.mark.parametrize("me", ["alex", "U1", "Alex Moreau", "ALEX@example.com"])
def test_slack(tmp_path, me):
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("users.json", json.dumps(USERS))
        archive.writestr("channels.json", "[]")
        archive.writestr("general/2026-03-02.json", json.dumps(DAY))
        archive.writestr("random/2026-03-03.json", "[cut off")
    texts, reasons = read(tmp_path / "export.zip", me)
    assert [text.text for text in texts] == [f"@Kim Ode: {MINE} here & now", "Sorry!"]
    assert texts[0].date == "2026-03-02T10:00:00+00:00" and texts[0].group == texts[1].group
    assert sorted(reasons) == ["a notice, not a text", "not JSON"] + ["not written by me"] * 3


def test_one_day_of_slack(tmp_path):
    (tmp_path / "2026-03-02.json").write_text(json.dumps(DAY))
    texts, _ = read(tmp_path / "2026-03-02.json", "U1")
    assert [text.text for text in texts] == [f"@U2: {MINE} here & now", "Sorry!"]
    with pytest.raises(UserError, match="Slack"):
        Ingest(tmp_path / "2026-03-02.json", ["alex"])


def google(name: str, text: str | None) -> dict:
    creator = {"name": name, "email": f"{name.split(maxsplit=1)[0].lower()}@example.com", "user_type": "Human"}
    date = "Monday, March 2, 2026 at 1:00:00\u202fPM UTC"
    return {
        "creator": creator,
        "created_date": date,
        "topic_id": "t",
        **({} if text is None else {"text": text}),
    }


@pytest.mark.parametrize("me", ["Alex Moreau", "alex@example.com"])
def test_google_chat(tmp_path, me):
    folder = tmp_path / "Takeout" / "Google Chat" / "Groups" / "DM 1"
    folder.mkdir(parents=True)
    messages = [google("Kim Ode", THEIRS), google("Alex Moreau", MINE), google("Alex Moreau", None)]
    (folder / "messages.json").write_text(json.dumps({"messages": messages}, indent=2))
    (folder / "group_info.json").write_text('{"members": [{"name": "Kim Ode"}]}')
    texts, reasons = read(tmp_path, me)
    assert [(text.text, text.date) for text in texts] == [(MINE, "2026-03-02T13:00:00+00:00")]
    assert "not written by me" in reasons and len(reasons) == 3


def test_hangouts(tmp_path):
    def event(who: str, *segments) -> dict:
        content = {"message_content": {"segment": list(segments)}}
        return {"sender_id": {"gaia_id": who}, "timestamp": "1772445600000000", "chat_message": content}

    members = [{"id": {"gaia_id": "1"}, "fallback_name": "Alex Moreau"}, {"id": {"gaia_id": "2"}}]
    lines = [{"type": "TEXT", "text": "Are you"}, {"type": "LINE_BREAK", "text": "\n"}, {"type": "TEXT", "text": "in?"}]
    conversation = {
        "conversation": {"conversation": {"participant_data": members}},
        "events": [event("1", *lines), event("2", {"type": "TEXT", "text": THEIRS}), event("1")],
    }
    (tmp_path / "Hangouts.json").write_text(json.dumps({"conversations": [conversation]}))
    texts, reasons = read(tmp_path / "Hangouts.json", "Alex Moreau")
    assert [(text.text, text.date) for text in texts] == [("Are you\nin?", "2026-03-02T10:00:00+00:00")]
    assert reasons == ["not written by me", "a notice, not a text"]


@pytest.mark.parametrize("name", ["messages.json", "users.json", "Hangouts.json", "2026-03-02.json", "_chat.txt"])
@pytest.mark.parametrize("keep", [40, 200, 300])
def test_what_is_cut_off_stops_nothing(tmp_path, name, keep):
    """Beside a note, an export that is torn is read as far as it goes or counted."""
    whole = {
        "messages.json": json.dumps({"messages": [google("Alex", MINE)] * 9}),
        "users.json": json.dumps(USERS),
        "Hangouts.json": json.dumps({"conversations": [{"conversation": 1, "events": [1, {}]}] * 9}),
        "2026-03-02.json": json.dumps(DAY),
        "_chat.txt": "[02/03/2026, 10:00:00] Alex: Hi.\n" * 10,
    }
    (tmp_path / name).write_text(whole[name][:keep])
    (tmp_path / "note.txt").write_text("A note.")
    texts, _ = read(tmp_path, "alex")
    assert "A note." in [text.text for text in texts]


def test_a_long_chat_is_several_conversations(tmp_path):
    """Cut at nights, but not into crumbs; a short chat stays whole however long its pauses are."""
    days = [
        f"[{day:02}/03/2026, {9 + n // 6:02}:{n % 6}0:00] {'Alex' if n % 2 else 'Kim'}: {day} {n}"
        for day in (2, 3, 4)
        for n in range(12)
    ]
    chat = tmp_path / "chat.txt"
    chat.write_text("\n".join(days))
    groups = [text.group for text in read(chat, "Alex")[0]]
    assert len(groups) == 18 and len(set(groups[:12])) == 1 and len(set(groups[12:])) == 1 and len(set(groups)) == 2
    chat.write_text("\n".join(days[:1] + days[13:14] + days[25:26]))
    assert len({text.group for text in read(chat, "Alex")[0]}) == 1


def test_answers_of_a_slack_thread_stay_with_it(tmp_path):
    day = 24 * 3600
    messages = [{"type": "message", "user": "U1", "text": f"Words {n}.", "ts": f"{n}.5"} for n in range(1, 25)]
    messages += [{"type": "message", "user": "U1", "text": "Late.", "ts": f"{day}.5"}]
    messages += [{"type": "message", "user": "U1", "text": "An answer.", "ts": f"{2 * day}.5", "thread_ts": "3.5"}]
    for has_thread in (False, True):
        if has_thread:
            messages[2]["thread_ts"] = "3.5"
        (tmp_path / "2026-03-02.json").write_text(json.dumps(messages))
        groups = [text.group for text in read(tmp_path / "2026-03-02.json", "U1")[0]]
        assert len(groups) == 26 and len(set(groups)) == 2 - has_thread
