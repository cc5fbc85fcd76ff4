"""Rows of every kind of file become the same Examples; every bad row is named by file and line."""

import csv
import hashlib
import json
from datetime import date, datetime, time
from importlib.resources import files

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from revinst.data import example_table
from revinst.data.example_table import count_categories, load_examples
from revinst.data.examples import FIELDS, Example
from revinst.errors import UserError

ROWS = [
    {"id": "r1", "instruction": "Say hi.", "context": "", "response": "Hi there!", "category": "open_qa"},
    {"id": "r2", "instruction": "Sum up.", "context": "A, long\ntext", "response": 'He said "é 中"', "category": ""},
]
EXAMPLES = [Example(**row) for row in ROWS]
GOOD = b'{"instruction": "Say hi.", "response": "Hi there!"}'


def write_rows(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(ROWS[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in ROWS[0]])), path)
    return str(path)


def write_lines(path, *lines: bytes):
    path.write_bytes(b"\n".join(lines) + b"\n")
    return str(path)


# ---- kinds of sources ------------------------------------------------------------------------------------------------

SUFFIXES = ["jsonl", "json", "csv", "parquet"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_file_gives_the_same_examples(tmp_path, suffix):
    assert load_examples(write_rows(tmp_path / f"rows.{suffix}", ROWS)) == (EXAMPLES, [])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_file_is_named(tmp_path, suffix):
    path = write_rows(tmp_path / f"rows.{suffix}", [])
    with pytest.raises(UserError, match=f"rows.{suffix}: no rows in it"):
        load_examples(path)


def test_a_folder_is_its_files_in_order_of_name(tmp_path):
    write_rows(tmp_path / "b.jsonl", ROWS[:1])
    write_rows(tmp_path / "a.csv", ROWS[1:])
    (tmp_path / "README.md").write_text("not rows")
    assert load_examples(str(tmp_path))[0] == EXAMPLES[::-1]


def test_a_folder_saved_by_datasets(tmp_path):
    from datasets import Dataset, DatasetDict

    Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    DatasetDict({"x": Dataset.from_list(ROWS[:1]), "y": Dataset.from_list(ROWS[1:])}).save_to_disk(tmp_path / "two")
    assert load_examples(str(tmp_path / "one"))[0] == EXAMPLES
    assert load_examples(str(tmp_path / "two"))[0] == EXAMPLES


def test_a_bad_row_of_a_datasets_folder_is_named_by_part_and_number(tmp_path):
    from datasets import Dataset

    Dataset.from_list([*ROWS, ROWS[0] | {"response": ""}]).save_to_disk(tmp_path / "rows")
    with pytest.raises(UserError, match=r"rows\[train\]:2: 'response' is empty"):
        load_examples(str(tmp_path / "rows"))


def test_a_list_of_sources_is_one_after_the_other(tmp_path):
    sources = [write_rows(tmp_path / "b.json", ROWS[1:]), write_rows(tmp_path / "a.parquet", ROWS[:1])]
    assert load_examples(sources)[0] == EXAMPLES[::-1]


def test_quickstart_rows_are_all_good():
    lines = files("revinst.data").joinpath("quickstart.jsonl").read_text().splitlines()
    examples, discarded = load_examples("quickstart")
    assert (len(examples), discarded) == (len(lines), []) and len(lines) > 100
    assert len({example.id for example in examples}) == len(examples)
    assert sum(count_categories(examples).values()) == len(examples)


def test_rows_are_taken_as_lists_take_them_and_never_copied(monkeypatch):
    """Blocks of 7 examples: the file has 58 pieces, and what is taken crosses them."""
    monkeypatch.setattr(example_table, "READ_AT_ONCE", 7)
    examples, _ = load_examples("quickstart")
    rows = list(examples)
    assert len(examples.table.to_batches()) == 58 and [examples[n] for n in range(-3, 20)] == rows[-3:] + rows[:20]
    order = np.random.default_rng(0).permutation(400)[:150]
    taken = examples.take(order)
    assert list(taken) == [rows[n] for n in order] and taken.table is examples.table
    for part in (slice(3, 120, 9), slice(None, None, -1), slice(20, 45), slice(5, 5)):
        assert list(taken[part]) == list(taken)[part] == [taken[n] for n in range(150)[part]]
    assert taken.take([4, 4, 0]).texts("response") == [rows[order[n]].response for n in (4, 4, 0)]
    assert taken.numbers_of([rows[order[9]].id, "absent", rows[order[0]].id]).tolist() == [9, -1, 0]
    assert list(taken.take([])) == [] and taken.weights.tolist() == [1.0] * 150


def test_weights_follow_the_rows(tmp_path):
    sources = [write_rows(tmp_path / "a.json", ROWS), {"source": write_rows(tmp_path / "b.csv", ROWS), "weight": 2.5}]
    examples, _ = load_examples(sources)
    assert [example.id for example in examples] == ["r1", "r2", "r1-2", "r2-2"]
    assert examples.take([3, 0, 2]).weights.tolist() == [2.5, 1.0, 2.5]


def test_real_rows(dolly):
    examples, discarded = load_examples(dolly)
    assert (len(examples), discarded) == (5983, [])
    assert len({example.id for example in examples}) == 5983


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent.jsonl", "no such file or folder"),
        ("./absent", "no such file or folder"),
        ("a/b/c", "no such file or folder"),
        ("nobody/nothing", "neither a file nor a data set that the hub gave"),
    ],
)
def test_a_missing_source_is_named(tmp_path, monkeypatch, name, reason):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{name}: {reason}"):
        load_examples(name)


def test_sources_of_the_wrong_kind_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.txt").write_text("hello")
    (tmp_path / "rows.json").write_text('{"instruction": "a", "response": "b"}')
    (tmp_path / "cut.json").write_text('[{"instruction": "a"')
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 nonsense")
    for name, reason in {
        "empty": "empty: no .jsonl, .json, .csv, .parquet, .ndjson, .tsv file in this folder",
        "rows.txt": "rows.txt: unknown kind of file '.txt'",
        "rows.json": "rows.json: a .json file must hold one list of rows",
        "cut.json": "cut.json: not JSON",
        "rows.parquet": "rows.parquet: not a readable parquet file",
    }.items():
        with pytest.raises(UserError, match=reason):
            load_examples(str(tmp_path / name), on_bad_row="skip")


# ---- columns and ids -------------------------------------------------------------------------------------------------


def test_columns_are_mapped(tmp_path):
    path = write_lines(tmp_path / "rows.jsonl", b'{"prompt": "p", "output": "o", "kind": "k", "key": 7, "id": "no"}')
    columns = {"instruction": "prompt", "response": "output", "category": "kind", "id": "key"}
    assert load_examples(path, columns)[0] == [Example("7", "p", "", "o", "k")]


def test_an_unknown_field_in_columns_is_refused(tmp_path):
    path = write_lines(tmp_path / "rows.jsonl", GOOD)
    with pytest.raises(UserError, match=r"data.columns: unknown field 'prompt'; choose from instruction, .*, id"):
        load_examples(path, {"prompt": "instruction"})


def test_texts_are_stripped_and_null_context_is_empty(tmp_path):
    path = write_lines(tmp_path / "rows.jsonl", b'{"instruction": " a\\n", "context": null, "response": "\\t b  c "}')
    [example] = load_examples(path)[0]
    assert (example.instruction, example.context, example.response, example.category) == ("a", "", "b  c", "")


def test_content_ids(tmp_path):
    row = {"instruction": "i", "context": "c", "response": "r", "category": "not part of the id"}
    path = write_lines(tmp_path / "rows.jsonl", json.dumps(row).encode(), GOOD, json.dumps(row).encode())
    digest = hashlib.sha256(b"i\0c\0r").hexdigest()[:16]
    ids = [example.id for example in load_examples(path)[0]]
    assert ids == [digest, hashlib.sha256(b"Say hi.\0\0Hi there!").hexdigest()[:16], f"{digest}-2"]
    # ... and over several files
    assert [e.id for e in load_examples([path, path])[0]] == [*ids, f"{digest}-3", f"{ids[1]}-2", f"{digest}-4"]


@pytest.mark.parametrize(
    ("given", "unique"),
    [
        (["a", 1, "b"], ["a", "1", "b"]),
        (["a", "a", "a"], ["a", "a-2", "a-3"]),
        (["1", 1], ["1", "1-2"]),
        (["a", "a", "a-2"], ["a", "a-2", "a-2-2"]),  # the file's own id looks like a repeat of another
        (["a-2", "a", "a"], ["a-2", "a", "a-3"]),
    ],
)
def test_own_ids_are_kept_and_made_unique(tmp_path, given, unique):
    rows = [{"id": own, "instruction": f"do {n}", "response": f"done {n}"} for n, own in enumerate(given)]
    examples = load_examples(write_rows(tmp_path / "rows.jsonl", rows))[0]
    assert [example.id for example in examples] == unique
    assert [example.response for example in examples] == [row["response"] for row in rows]


def test_an_empty_own_id_is_no_id(tmp_path):
    """A CSV file spells a missing id as an empty cell."""
    rows = [row | {"id": ""} for row in ROWS]
    own = load_examples(write_rows(tmp_path / "rows.csv", rows))[0]
    none = load_examples(write_rows(tmp_path / "rows.jsonl", [{f: row[f] for f in FIELDS} for row in ROWS]))[0]
    assert own == none and len(own[0].id) == 16


def test_optional_columns_of_other_types_are_spelt(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"category": 3, "context": ["p", None, "q"], "id": 7.0},
        {"category": 3.0, "context": 1.5, "id": float("nan")},
        {"category": ["x", 2], "context": [], "id": None},
        {"category": True, "context": None},
        {"category": float("nan"), "context": ""},
    ]
    write_rows(path, [{"instruction": f"i{n}", "response": "r"} | row for n, row in enumerate(rows)])
    examples, _ = load_examples(str(path))
    assert examples.texts("category") == ["3", "3", "x, 2", "True", ""]
    assert examples.texts("context") == ["p\nq", "1.5", "", "", ""]
    assert examples[0].id == "7" and examples[1].id == hashlib.sha256(b"i1\x001.5\0r").hexdigest()[:16]


def test_typed_columns_of_parquet(tmp_path):
    columns = {"instruction": ["i", "j"], "response": ["r", "s"], "category": [0, None], "context": [None, None]}
    dates = {"day": [date(2024, 5, 1), None]}
    pq.write_table(pa.table(columns | dates), tmp_path / "rows.parquet")
    assert load_examples(str(tmp_path / "rows.parquet"))[0].texts("category") == ["0", ""]
    found = load_examples(str(tmp_path / "rows.parquet"), {"category": "day"})[0]
    assert found.texts("category") == ["2024-05-01", ""] and found.texts("context") == ["", ""]


def test_columns_names_are_read_as_they_look(tmp_path):
    row = {"\ufeffmy\u00a0text": "i", "res\u200bponse ": "r\u200b", "\u202econtext": "c"}
    found = load_examples(write_rows(tmp_path / "rows.jsonl", [row]), {"instruction": "my text"})[0]
    assert list(found) == list(load_examples(str(tmp_path / "rows.jsonl"), {"instruction": "\u2060my text"})[0])
    assert (found[0].instruction, found[0].context) == ("i", "c")
    assert found[0].response == "r\u200b", "a text stays as it is"


# ---- bad rows --------------------------------------------------------------------------------------------------------

BAD_LINES = {
    "truncated": (b'{"instruction": "a", "resp', "not JSON"),
    "garbage": (b"%PDF-1.4", "not JSON"),
    "an integer of 5,000 digits": (b'{"instruction": "a", "response": "b", "n": ' + b"1" * 5000 + b"}", "not JSON"),
    "deep": (b"[" * 200_000, "not JSON"),
    "not UTF-8": (b'{"instruction": "a", "response": "caf\xe9"}', r"not UTF-8 \(byte 37\)"),
    "a list": (b'["a", "b"]', "a row must be an object with named fields, this is list"),
    "a number": (b'{"instruction": "a", "response": 7}', "'response' must be text, is int"),
    "a list of texts": (b'{"instruction": ["a"], "response": "b"}', "'instruction' must be text, is list"),
    "NUL": (b'{"instruction": "a", "response": "b\\u0000c"}', "'response' holds a NUL byte"),
    "lone surrogate": (b'{"instruction": "a\\ud83d", "response": "b"}', "'instruction' is not valid Unicode"),
    "empty": (b'{"instruction": " \\n", "response": "b"}', "'instruction' is empty"),
    "invisible": (b'{"instruction": "a", "response": "\\u200b \\u2060\\ufeff\\u3164"}', "'response' is empty"),
    "an object as context": (
        b'{"instruction": "a", "response": "b", "context": {}}',
        "'context' must be text, is dict",
    ),
    "two columns": (
        b'{"instruction": "a", "response": "b", "response\\u200b": "c"}',
        "two columns are named 'response'",
    ),
    "null": (b'{"instruction": "a", "response": null}', "'response' is empty"),
    "missing": (b'{"instruction": "a", "output": "b"}', r"no column 'response' \(it has instruction, output\)"),
    "an object as id": (b'{"instruction": "a", "response": "b", "id": {}}', "'id' must be text or a whole number"),
    "lone surrogate as id": (b'{"instruction": "a", "response": "b", "id": "\\ud83d"}', "'id' is not valid Unicode"),
    "too long": (b'{"instruction": "a", "response": "' + b"b" * 10_000_000 + b'"}', "bytes long, more than 10,000,000"),
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, line, reason):
    path = write_lines(tmp_path / "rows.jsonl", GOOD, b"", line, GOOD)  # blank lines count, but are no rows
    with pytest.raises(UserError, match=f"rows.jsonl:3: .*{reason}.*on_bad_row: skip"):
        load_examples(path)
    examples, [discarded] = load_examples(path, on_bad_row="skip")
    assert [example.response for example in examples] == ["Hi there!"] * 2
    assert discarded.where == f"{path}:3"


def test_skipped_rows_are_counted(tmp_path):
    bad = [line for line, _ in BAD_LINES.values()]
    path = write_lines(tmp_path / "rows.jsonl", *bad, GOOD, GOOD, GOOD)
    examples, discarded = load_examples(path, on_bad_row="skip")
    assert (len(examples), len(discarded)) == (3, len(BAD_LINES))
    assert [row.where for row in discarded] == [f"{path}:{number + 1}" for number in range(len(BAD_LINES))]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_a_byte_order_mark_is_accepted(tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    write_rows(path, ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_examples(str(path))[0] == EXAMPLES


def test_bad_rows_of_csv(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('instruction,response\na,b\nonly one\na,b,c\na,"two\nlines"\n,b\n')
    examples, discarded = load_examples(str(path), on_bad_row="skip")
    assert [example.response for example in examples] == ["b", "two\nlines"]
    assert [(row.where, row.reason) for row in discarded] == [
        (f"{path}:3", "another number of columns than the header"),
        (f"{path}:4", "another number of columns than the header"),
        (f"{path}:7", "'instruction' is empty"),
    ]


@pytest.mark.parametrize("content", [b"instruction,response\na,b\nc,caf\xe9\n", b'instruction,response\na,b\nc,"d\n'])
def test_a_csv_file_that_can_not_be_read_is_named(tmp_path, content):
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"rows.csv:\d: not a CSV file in UTF-8"):
        load_examples(str(tmp_path / "rows.csv"))


def test_bad_rows_of_json_and_parquet_are_named_by_number(tmp_path):
    (tmp_path / "rows.json").write_text('[{"instruction": "a", "response": "b"}, {"instruction": "a", "response": 7}]')
    with pytest.raises(UserError, match=r"rows.json\[1\]: 'response' must be text, is int"):
        load_examples(str(tmp_path / "rows.json"))
    pq.write_table(pa.table({"instruction": ["a", "a"], "response": ["b", None]}), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=r"rows.parquet\[1\]: 'response' is empty"):
        load_examples(str(tmp_path / "rows.parquet"))


def test_citation_marks_are_stripped_on_request(tmp_path):
    row = {
        "instruction": "Say [1].",
        "context": "[2] Bees fly.[13][14]",
        "response": "Yes [12], a[0] and [1999] stay[3].",
    }
    only_marks = {"instruction": "a", "response": " [1] [2]"}
    path = write_rows(tmp_path / "rows.jsonl", [row, only_marks])
    [stripped], [discarded] = load_examples(path, strip_citations=True, on_bad_row="skip")
    assert (stripped.instruction, stripped.context) == ("Say [1].", "Bees fly.")  # what is asked for stays as it is
    assert stripped.response == "Yes, a and [1999] stay."
    assert discarded.reason == "the response holds nothing but citation marks"
    as_it_is, _ = load_examples(path)
    assert (as_it_is[0].response, as_it_is[0].id) == (row["response"], stripped.id) and len(as_it_is) == 2


def test_needs_decides_what_may_be_empty(tmp_path):
    path = write_lines(tmp_path / "rows.jsonl", b'{"response": "b"}')
    assert load_examples(path, needs=("response",))[0][0].instruction == ""
    with pytest.raises(UserError, match="no column 'instruction'"):
        load_examples(path)


@pytest.mark.parametrize("blank", ["", " ", "\u200b", "\ufeff\u2060"])
def test_an_id_that_nobody_sees_is_none(tmp_path, blank):
    rows = [{"instruction": "i", "response": str(number), "id": blank} for number in range(2)]
    path = write_lines(tmp_path / "rows.jsonl", *(json.dumps(row).encode() for row in rows))
    assert load_examples(path)[0].texts("id") == [
        hashlib.sha256(f"i\0\0{number}".encode()).hexdigest()[:16] for number in range(2)
    ]


def test_ids_and_categories_of_other_types_are_spelt(tmp_path):
    columns = {
        "instruction": ["i"], "response": ["r"], "category": [b"kind"], "id": [datetime(2026, 3, 2, 10)],
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    pq.write_table(pa.table(columns | {"category": [time(9, 30)], "id": [1.5]}), tmp_path / "other.parquet")
    found = [load_examples(str(tmp_path / name))[0][0] for name in ("rows.parquet", "other.parquet")]
    assert [(row.id, row.category) for row in found] == [("2026-03-02 10:00:00", "kind"), ("1.5", "09:30:00")]


@pytest.mark.parametrize("text", ["\x08", "\x1b\x7f", "\ufffc", "\uffff", " \x01\u200b"])
def test_control_characters_are_no_response(tmp_path, text):
    path = write_lines(tmp_path / "rows.jsonl", json.dumps({"instruction": "i", "response": text}).encode())
    with pytest.raises(UserError, match="'response' is empty"):
        load_examples(path)
