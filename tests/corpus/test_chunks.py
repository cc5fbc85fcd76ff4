"""Long texts in chunks: nothing lost, cut where it reads well, several instructions by length, none twice, one part."""

import json
from collections import Counter

import numpy as np
import pytest

from revinst.corpus.candidates import choose_several, share_of
from revinst.corpus.chunks import CHUNK_WORDS, split_record, split_text
from revinst.corpus.dropped import KEPT, filter_records
from revinst.corpus.filters import Thresholds
from revinst.data.words import count_words, split_words
from revinst.inference.samples import Picked, Sample, Written
from tests.commands.test_run import run_command
from tests.corpus.test_corpus_command import LOOSE, read
from tests.cpu_time import assert_linear

DICE = np.random.default_rng(29)


def paragraph(number_of_words):
    words = [f"w{DICE.integers(1000)}" for _ in range(number_of_words)]
    return " ".join(words).capitalize() + "."


def article(parts=12, most=150):
    blocks = ["\n\n".join(map(paragraph, each)) for each in DICE.integers(20, most, (parts, 4)).tolist()]
    return "\n\n".join(f"## Part {number}\n\n{block}" for number, block in enumerate(blocks))


CODE = "```python\n" + "\n\n".join(f"x{number} = {number}" for number in range(100)) + "\n```"
TEXTS = {
    "headings": article(),
    "one paragraph": " ".join(paragraph(9) for _ in range(400)),
    "one sentence": paragraph(3000),
    "verses": "\n".join(f"a line of verse number {number}" for number in range(700)),
    "Chinese": "我们走到了旧磨坊。天气很好。" * 400,
    "Chinese without an end": "字" * 9000,
    "headings alone": "\n\n".join(f"# Heading {number}" for number in range(2000)),
    "a long paragraph among short ones": "\n\n".join(paragraph(n) for n in (30, 1800, 20, 5, 600)),
    "code": "\n\n".join([article(3), CODE, article(3)]),
    "underlined": "\n\n".join(f"Part {number}\n------\n\n{paragraph(180)}" for number in range(12)),
    "a word without an end": "x" * 20_000 + " y" * 2000,
}


@pytest.mark.parametrize("name", TEXTS)
def test_split_text(name):
    """All of it in order, in chunks of at most so many words that are about as long as each other."""
    text = TEXTS[name]
    chunks = split_text(text, CHUNK_WORDS)
    assert split_words("\n".join(chunks)) == split_words(text) and len(chunks) > 2
    lengths = [count_words(chunk) for chunk in chunks]
    assert max(lengths) <= CHUNK_WORDS and sum(lengths) == pytest.approx(count_words(text), rel=0.001)
    assert len(chunks) <= 1.6 * sum(lengths) / CHUNK_WORDS + 1
    assert all(chunk == chunk.strip() for chunk in chunks)


UNITS = ["x\n\n", "```\n\nx\n\n", "# x\n\n", "x. ", "x", "\n", " \n", "x\n", ".", "=\n", "字。"]


@pytest.mark.parametrize("unit", UNITS)
def test_time_is_linear(unit):
    """Also with a fence that is never closed; the slowest takes a second and a half."""
    for beginning in ("", "```\n\n"):
        assert_linear(lambda text: split_text(text, CHUNK_WORDS), unit, f"{beginning}a ", 100_000)


def test_where_it_is_cut():
    chunks = split_text(TEXTS["headings"], CHUNK_WORDS)
    assert sum(chunk.startswith("## Part") for chunk in chunks) >= 0.7 * len(chunks)
    assert not any(chunk.rsplit("\n\n", 1)[-1].startswith("#") for chunk in chunks), "a heading stands with its part"
    assert all(chunk.startswith("Part ") for chunk in split_text(TEXTS["underlined"], CHUNK_WORDS))
    assert sum(CODE in chunk for chunk in split_text(TEXTS["code"], CHUNK_WORDS)) == 1, "code is one paragraph"
    assert all(chunk.endswith(".") for chunk in split_text(TEXTS["one paragraph"], CHUNK_WORDS))
    assert "verse number 1\na line" in split_text(TEXTS["verses"], CHUNK_WORDS)[0]


def test_a_text_that_is_not_longer_stays_as_it_is():
    record = {"id": "a", "where": "b.txt", "text": TEXTS["headings"], "context": "Kim's.", "group": "g"}
    assert list(split_record(record, 0)) == [record] == list(split_record(record, 100_000))
    chunks = list(split_record(record, 1500))
    assert [chunk["id"] for chunk in chunks] == [f"a-{number}" for number in range(1, len(chunks) + 1)]
    assert chunks[1]["where"] == "b.txt, part 2" and {chunk["document"] for chunk in chunks} == {"a"}
    assert [chunk["context"] for chunk in chunks] == ["Kim's.", *[""] * (len(chunks) - 1)]
    assert {chunk["group"] for chunk in chunks} == {"g"}


def test_instructions_in_proportion():
    counts = {words: share_of(4, "word " * words) for words in (1, 60, 250, 500, 1400)}
    assert counts == {1: 1, 60: 1, 250: 2, 500: 4, 1400: 4} and share_of(1, "word " * 1400) == 1


def test_several_of_the_samples():
    """The picked one, then by votes; not twice the same in other words."""
    texts = ["Name a salt of the sea.", "name a salt of the sea", "Name a salt of the seas.", "Why is it salty?", "Go."]
    written = Written([Sample(text, -1.0 - n, 3, "eos") for n, text in enumerate(texts)])
    picked = Picked(written.samples[3], 3, [0.9, 0.9, 0.8, 0.5, 0.1])
    assert [each.text for each in choose_several(written, picked, 9)] == [texts[3], texts[0], texts[4]]
    assert choose_several(written, picked, 1) == [written.samples[3]]
    nothing = Picked(Sample("", -1.0, 0, "eos"), 0, [0.0])
    assert choose_several(Written([nothing.taken]), nothing, 3) == [nothing.taken]


def record(text_id, text, instruction, **fields):
    numbers = {"gain": 0.1, "ifd": 0.9, "rifd": 0.9}
    return {"id": text_id, "text": text, "instruction": instruction} | numbers | fields


def test_none_twice_in_a_document():
    """Alike in two chunks of one document; not in two documents where that is asked for. A text's instructions share
    its fate."""
    texts = [paragraph(60) for _ in range(4)]
    records = [
        record("a-1", texts[0], "Describe the walk to the old mill.", document="a"),
        record("a-1", texts[0], "Explain how bread is baked in a stone oven.", document="a"),
        record("a-2", texts[1], "Describe the walk to the old mills.", document="a"),
        record("b", texts[2], "Describe the walk to that old mill."),
        record("c", texts[0], "List three kinds of pears."),
        record("c", texts[0], "Which apples keep until spring?"),
        record("d", texts[3], "Tell when the ferry leaves."),
        record("d", texts[3], "Tell when the ferry leaves!"),
    ]
    limits = Thresholds(duplicate_instruction=None, language=None)
    dropped = filter_records(records, limits, (), False)
    assert dict(dropped) == {
        2: ("duplicate_in_document", "like the row a-1"),
        4: ("duplicate_text", "like the row a-1"),
        5: ("duplicate_text", "like the row a-1"),
        7: ("duplicate_in_document", "like the row d"),
    }
    counts = {each["name"]: each["dropped"] for each in dropped.to_json()}
    assert counts["duplicate_in_document"] == 2 and counts["duplicate_text"] == 2
    off = filter_records(records, Thresholds(duplicate_in_document=None, language=None), (), False)
    assert off[2][0] == off[3][0] == off[7][0] == "duplicate_instruction" and int((off.failed == KEPT).sum()) == 3


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A book of 4,000 words and twenty notes."""
    folder = tmp_path_factory.mktemp("notes")
    (folder / "book.md").write_text(article(14))
    for number in range(20):
        (folder / f"note-{number}.txt").write_text(paragraph(30))
    return folder


OPTIONS = ("--max_new_tokens", 6, "--samples", 4, "--heldout", 0.2,
           *(part for name in LOOSE for part in ("--filter", f"{name}=off")))  # fmt: skip


def test_the_whole_way(source, backward_run, tmp_path):
    out = tmp_path / "own"
    assert run_command("corpus", source, out, "--run", backward_run, "--per_text", 3, *OPTIONS) == 0
    card, texts, rows = (
        json.loads((out / "card.json").read_text()),
        read(out / "texts.jsonl"),
        read(out / "scored.jsonl"),
    )
    counts, chunks = card["counts"], [text for text in texts if "document" in text]
    assert counts["read"] == 21 and counts["split"] == 1 and counts["texts"] == 20 + len(chunks) > 26
    assert counts["pairs"] == counts["kept"] + counts["dropped"] == len(rows) > len(texts)
    assert all(row["filter"] != "too_long" for row in read(out / "dropped.jsonl"))
    per_text = Counter(row["id"] for row in rows)
    assert all(per_text[text["id"]] <= share_of(3, text["text"]) for text in texts) and max(per_text.values()) > 1
    assert counts["candidates"] <= 4 * len(texts)
    provenance = read(out / "provenance.jsonl")
    assert len({row["part"] for row in provenance if row["text"].startswith(chunks[0]["document"])}) == 1
    assert {row["document"] for row in provenance if "-" in row["text"]} == {chunks[0]["document"]}
    pairs = Counter((row["response"], row["instruction"]) for row in read(out / "dataset.jsonl"))
    assert max(pairs.values()) == 1, "no pair twice"


def test_options(source, backward_run, tmp_path, capsys):
    args = ("corpus", source, tmp_path / "a", "--run", backward_run)
    for wrong in (("--per_text", 0), ("--per_text", 3, "--samples", 2), ("--per_text", 2, "--pick", "greedy")):
        assert run_command(*args, *wrong) == 2 and "--per_text" in capsys.readouterr().err
    assert run_command(*args, "--split_words", -1) == 2 and "--split_words" in capsys.readouterr().err
    whole = ("corpus", source, tmp_path / "b", "--texts_only")
    assert run_command(*whole, "--split_words", 0) == 0 and len(read(tmp_path / "b" / "texts.jsonl")) == 21
    assert run_command(*whole) == 2 and "made with another split_words" in capsys.readouterr().err
    settings = json.loads((tmp_path / "b" / "settings.json").read_text())
    del settings["split_words"]  # as of a version that split nothing
    (tmp_path / "b" / "settings.json").write_text(json.dumps(settings))
    assert run_command(*whole) == 2 and run_command(*whole, "--split_words", 0) == 0
