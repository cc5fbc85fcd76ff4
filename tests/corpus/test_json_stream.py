"""Lists in JSON that are read object by object are those that the standard library reads at once."""

import json
import random
import tracemalloc

import pytest

from revinst.corpus.chats import json_stream
from revinst.corpus.chats.json_stream import read_items
from revinst.corpus.ingest import Ingest
from revinst.errors import UserError

VALUES = (None, True, -1.25e-30, 1234567890, "", 'a "quoted" \\ \n ]}', "☕\ud83d", [], {}, [1, [2, {"a": [3]}]])
VALUES += ({"list": [{"b": 1}]},)


def made(dice, depth=0):
    if depth == 3 or dice.random() < 0.3:
        return dice.choice(VALUES)
    values = [made(dice, depth + 1) for _ in range(dice.randrange(5))]
    names = ("a", "b", "list", *map(str, range(9)))
    return values if dice.random() < 0.5 else {dice.choice(names): each for each in values}


def read(path, content, *keys):
    path.write_text(content, encoding="utf-8", errors="surrogatepass")
    return list(read_items(path, *keys))


@pytest.mark.parametrize("block", [1, 2, 7, 1 << 20])
def test_as_read_at_once(tmp_path, monkeypatch, block):
    """Wherever a block of the file ends, numbers included; other values beside the list are passed over."""
    monkeypatch.setattr(json_stream, "BLOCK", block)
    dice = random.Random(block)
    for _ in range(60):
        items = [made(dice) for _ in range(dice.randrange(6))]
        spaces = dice.choice((None, 1, 3))
        objects = [each for each in items if isinstance(each, dict)]
        assert read(tmp_path / "a.json", json.dumps(items, indent=spaces)) == objects
        around = {"x": made(dice), "y": {"list": items, "z": made(dice)}, "w": {"list": items}, "v": 12}
        content = "\ufeff" + json.dumps(around, indent=spaces) + "\n "
        assert read(tmp_path / "a.json", content, "y", "list") == objects
        assert read(tmp_path / "a.json", content, ("y", "w", "v"), "list") == objects * 2
        assert read(tmp_path / "a.json", content, "nowhere", "list") == [] == read(tmp_path / "a.json", content)


BROKEN = ["", "[", '[{"a": 1}', '[{"a": 1},', '[{"a": 1} {"b": 2}]', "[{}] x", '[{"a": tru}]', '[{"a" 1}]', "[,]", "{"]


@pytest.mark.parametrize("content", [*BROKEN, "[" * 100_000])
def test_what_is_no_json(tmp_path, content):
    """One line, and what stands before is read."""
    with pytest.raises(UserError, match="not JSON") as error:
        read(tmp_path / "a.json", content)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    found = []
    with pytest.raises(UserError):
        found.extend(read_items(tmp_path / "a.json"))
    (tmp_path / "a.json").write_text('[{"a": 1}, {"b"')
    items = read_items(tmp_path / "a.json")
    assert next(items) == {"a": 1}
    with pytest.raises(UserError):
        next(items)


def test_memory_is_that_of_an_object(tmp_path):
    content = json.dumps([{"text": "word " * 200, "numbers": list(range(50))}] * 20_000)
    (tmp_path / "a.json").write_text(content)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_items(tmp_path / "a.json")) == 20_000
        assert tracemalloc.get_traced_memory()[1] < len(content) / 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["posts.json", "tweets.js", "table.json", "result.json", "conversations.json"])
def test_a_file_of_ten_gigabytes(tmp_path, monkeypatch, name):
    """Read piece by piece, or refused in a line; a hole on the disk."""
    monkeypatch.setattr(json_stream, "MAX_VALUE", 1 << 22)
    beginnings = {
        "posts.json": '[{"timestamp": 1, "data": [{"post": "Mine."}]},',
        "tweets.js": "window.YTD.tweets.part0 = [",
        "table.json": '[{"text": "',
        "result.json": '{"name": "Kim", "type": "x", "id": 1, "messages": [{"date_unixtime": 1}, "',
        "conversations.json": '[{"title": "", "create_time": 1, "mapping": {"parent": "", "children": [],',
    }
    path = tmp_path / name
    with path.open("w") as file:
        file.write(beginnings[name])
        file.truncate(10 << 30)
    with pytest.raises(UserError, match=r"larger than 1024 MiB|not JSON"):
        Ingest(path, ["Kim"])
