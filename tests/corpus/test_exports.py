"""Every kind of export: mine alone with its date and conversation, and no traceback whatever stands in it."""

import json
import random
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec

import pytest

import tests.corpus.made_networks  # noqa: F401  (adds its own)
from revinst.corpus.ingest import Ingest
from revinst.corpus.kinds import KINDS
from revinst.errors import UserError
from tests.corpus.made_documents import ME, build_eml
from tests.corpus.made_documents import THEIRS as KIMS
from tests.corpus.made_exports import ALEX, DATE, EXPORTS, KIM, MINE, MINE_TOO, THEIRS, write_export
from tests.corpus.test_documents import LIBRARIES, WRITERS

NAMED = [name for name, make in EXPORTS.items() if make().me]


@pytest.mark.parametrize("name", EXPORTS)
def test_mine_alone(tmp_path, name):
    """In a folder, and whatever the file is called."""
    export = EXPORTS[name]()
    path = write_export(tmp_path / "in", export)
    sources = [tmp_path / "in"]
    if not export.beside:
        sources.append(tmp_path / f"x{path.suffix}")
        sources[1].write_bytes(path.read_bytes())
    for source in sources:
        ingest = Ingest(source, [export.me] if export.me else [])
        texts = list(ingest.texts())
        assert tuple(text.text for text in texts) == export.texts
        assert {text.date[:16] for text in texts} == {DATE[:16]}
        assert bool(texts[0].author) == bool(export.me)
        assert len({text.group for text in texts}) == (1 if export.one_conversation else len(texts))
        assert all(name in str(export.content) or name in (KIM, ALEX) for name in ingest.names)
        assert len(ingest.not_kept) == export.num_others and all(note.reason for note in ingest.not_kept)


@pytest.mark.parametrize("me", [(), ("nobody@example.com",)])
@pytest.mark.parametrize("name", NAMED)
def test_one_of_nobody_known_is_refused(tmp_path, name, me):
    path = write_export(tmp_path, EXPORTS[name]())
    with pytest.raises(UserError, match=rf"{KIM}.*--me") as error:
        Ingest(path, me)
    assert len(str(error.value).splitlines()) == 1


JUNK = (None, 7, -1e300, "x", "\ud800", "", [], {}, [None], {"x": 1}, True)


def twist(value, draw):
    """One place of a tree has something else in it."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.15:
        return draw.choice(JUNK)
    place = draw.choice(list(value) if isinstance(value, dict) else range(len(value)))
    copy = value.copy()
    copy[place] = twist(value[place], draw)
    return copy


def without_a_piece(content, draw):
    start = draw.randrange(len(content))
    return content[:start] + content[start + draw.randrange(1, 60) :]


def parse(content):
    """What stands before each value, and the values."""
    if content.startswith("window"):
        head, _, content = content.partition("= ")
        return head + "= ", [json.loads(content)]
    try:
        return "\n", [json.loads(content)]
    except ValueError:
        return "\n", list(map(json.loads, content.splitlines()))


def read_beside_a_note(folder, export):
    write_export(folder, export)
    ingest = Ingest(folder, [export.me or "somebody"])
    assert all(note.reason and "\n" not in note.reason for note in ingest.not_kept)
    return [text.text for text in ingest.texts()]


@pytest.mark.parametrize("name", EXPORTS)
def test_what_is_torn_stops_nothing(tmp_path, name):
    """An export that is cut off, or has other things in its places, is read or left out with a reason."""
    export, draw = EXPORTS[name](), random.Random(name)
    (tmp_path / "note.txt").write_text("A note.")
    for length in (draw.randrange(1, len(export.content)) for _ in range(8)):
        texts = read_beside_a_note(tmp_path, replace(export, content=export.content[:length]))
        assert "A note." in texts and not any(THEIRS in text for text in texts)
    broken = [without_a_piece(export.content, draw) for _ in range(15)]
    if export.name.endswith((".json", ".jsonl", ".js")):
        head, whole = parse(export.content)
        broken += [head.join(["", *(json.dumps(twist(each, draw)) for each in whole)]) for _ in range(25)]
    for content in broken:
        try:
            assert "A note." in read_beside_a_note(tmp_path, replace(export, content=content))
        except UserError as error:  # e.g. where my name is gone, of two
            assert "--me" in str(error)


def test_kinds_are_told_apart(tmp_path):
    """No two kinds fit the same file: their order does not matter."""
    for name, make in EXPORTS.items():
        path = write_export(tmp_path / name, make())
        fitting = [kind.name for kind in KINDS if any(kind.fits(each) for each in (path, path.parent))]
        assert len(fitting) == 1, (name, fitting)


def test_what_the_archive_says_of_itself(tmp_path):
    """Discord puts a text of its own beside the messages."""
    write_export(tmp_path, EXPORTS["discord"]())
    (tmp_path / "messages" / "index.json").write_text('{"c1": "Direct Message with kim"}')
    (tmp_path / "README.txt").write_text("Welcome to your data package.")
    assert [text.text for text in Ingest(tmp_path).texts()] == list(EXPORTS["discord"]().texts)


@pytest.mark.parametrize("name, count", [("discord_table", 1), ("sms", 2), ("messenger", 2)])
def test_messages_of_mine_are_joined(tmp_path, name, count):
    """Also where the export is mine alone; not over a message of somebody else."""
    path = write_export(tmp_path, EXPORTS[name]())
    texts = [text.text for text in Ingest(path, [EXPORTS[name]().me or "x"], join_minutes=5).texts()]
    assert len(texts) == count


def test_nothing_of_others_in_a_folder_of_everything(tmp_path):
    """Exports, documents and mails: the sentence of somebody else that was planted in each is in no text of mine; where
    contexts are asked for, it stands in these alone.
    """
    exports = [make() for make in EXPORTS.values()]
    for name, export in zip(EXPORTS, exports, strict=True):
        write_export(tmp_path / name, export)
    for kind, write in WRITERS.items():
        if LIBRARIES.get(kind) is None or find_spec(LIBRARIES[kind]):
            write(tmp_path / f"a.{kind}")
    (tmp_path / "b.eml").write_bytes(build_eml())
    me = [*{export.me for export in exports if export.me}, ME, "mara@example.org"]
    planted = (THEIRS, KIMS)
    assert all(any(sentence in export.content for sentence in planted) for export in exports if export.num_others > 2)
    for contexts in (False, True):
        texts = list(Ingest(tmp_path, me, contexts=contexts).texts())
        assert len(texts) >= sum(len(export.texts) for export in exports) + 8
        assert not [text.where for text in texts if any(sentence in text.text for sentence in planted)]
        assert any(text.context == THEIRS for text in texts) == contexts


def test_all_in_one_folder(tmp_path):
    """Names that somebody has in one place and not in another are given side by side."""
    for name, make in EXPORTS.items():
        write_export(tmp_path / name, make())
    me = {export.me for export in (make() for make in EXPORTS.values()) if export.me}
    texts = [text.text for text in Ingest(tmp_path, me).texts()]
    assert Counter(texts) == Counter(text for make in EXPORTS.values() for text in make().texts)


PAGES = {
    "messages.html": '<div class="page_wrap"><div class="message default clearfix"><div class="text">',
    "chat.html": '<script>var jsonData = [{"title": "Chairs", "conversation_id": "1"}]</script><p>',
    "message_1.html": '<div class="_3-95 _a6-g"><h2 class="_2ph_ _a6-h _a6-i">Kim Ode</h2><div>',
    "note.html": "<p>",
}


@pytest.mark.parametrize("name", PAGES)
def test_pages_of_exports_are_left_out(tmp_path, name):
    """Keep writes each note twice."""
    (tmp_path / name).write_text(f"<html><body>{PAGES[name]}{THEIRS}</body></html>")
    (tmp_path / "note.json").write_text(EXPORTS["keep"]().content)
    ingest = Ingest(tmp_path)
    assert [text.text for text in ingest.texts()] == [f"{MINE}\n{MINE_TOO}"]
    assert ["for people" in note.reason for note in ingest.not_kept] == [True]


def test_lists_of_labels_are_left_out(tmp_path):
    """What Instagram says of posts that somebody saved: their captions are others'."""
    owner = {"title": "Owner", "dict": [{"title": "", "dict": [{"label": "Name", "value": KIM}]}]}
    entry = {"timestamp": 1, "media": [], "label_values": [{"label": "Caption", "value": THEIRS}, owner], "fbid": "1"}
    (tmp_path / "saved_posts.json").write_text(json.dumps([entry] * 3))
    (tmp_path / "settings.json").write_text(json.dumps({"media": [], "label_values": [{"label": "a", "value": "b"}]}))
    (tmp_path / "note.txt").write_text("A note.")
    ingest = Ingest(tmp_path, column="label_values")
    assert [text.text for text in ingest.texts()] == ["A note."]
    assert ["saved, liked or set" in note.reason for note in ingest.not_kept] == [True, True]


@pytest.mark.parametrize("end", ["…", "… https://t.co/a1", ""])
def test_a_long_post_is_read_once(tmp_path, end):
    """However its beginning ends among the posts."""
    text = "The chairs of the old café stand in our shed. " * 12
    tweet = {"id_str": "1", "created_at": "Mon Mar 02 10:00:00 +0000 2026", "full_text": text[:270] + end}
    note = {"noteTweetId": "2", "createdAt": "2026-03-02T10:00:00.000Z", "core": {"text": text, "urls": []}}
    (tmp_path / "community-tweet.js").write_text(f"window.YTD.community_tweet.part0 = {json.dumps([{'tweet': tweet}])}")
    (tmp_path / "note-tweet.js").write_text(f"window.YTD.note_tweet.part0 = {json.dumps([{'noteTweet': note}])}")
    assert [each.text for each in Ingest(tmp_path).texts()] == [text.strip()]
