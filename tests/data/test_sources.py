"""Which files a source is made of, and how each is unpacked, decoded and parsed; nothing is skipped without a word."""

import bz2
import codecs
import gzip
import json
import lzma
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from revinst.data.example_table import count_categories, load_examples
from revinst.data.sources import part_of
from revinst.data.split import split_examples
from revinst.data.texts import read_texts
from revinst.errors import UserError

ROWS = [{"instruction": f"What is {n}?", "response": f"It is {n}, é 中."} for n in range(4)]


def in_lines(rows: list[dict[str, str]] = ROWS) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def in_table(delimiter: str) -> str:
    lines = [("instruction", "response"), *((row["instruction"], row["response"]) for row in ROWS)]
    return "".join(delimiter.join(f'"{cell}"' for cell in line) + "\r\n" for line in lines)


def pack_zst(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return sink.getvalue().to_pybytes()


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": pack_zst}


def write(path: Path, content: bytes | str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def instructions(source: object) -> list[str]:
    return load_examples(source)[0].texts("instruction")


def check_is_whole(path: str) -> None:
    examples, discarded = load_examples(path)
    assert examples.texts("response") == [row["response"] for row in ROWS] and not discarded


# ---- what once came out wrong ----------------------------------------------------------------------------------------


def write_cases(folder: Path) -> dict[str, tuple[str, int]]:
    """60 rows of the quickstart in forms that people have: path and how many rows it gives."""
    pairs = [{"instruction": row.instruction, "response": row.response} for row in load_examples("quickstart")[0][:60]]
    contexts = ("N/A", "NaN", "<noinput>", "none", "-", "n.a.")
    placeholders = [row | {"context": contexts[n // 10]} for n, row in enumerate(pairs)]
    quoted = [[cell.replace('"', '""') for cell in row.values()] for row in pairs]
    table = "instruction;response\n" + "".join(f'"{i}";"{r}"\n' for i, r in quoted)
    numbered = pa.Table.from_pylist([row | {"category": n % 2} for n, row in enumerate(pairs)])
    pq.write_table(numbered, folder / "int-category.parquet")
    for name, content in {
        "placeholders.jsonl": in_lines(placeholders),
        "split/train.jsonl": in_lines(pairs[:48]),
        "split/test.jsonl": in_lines(pairs[48:]),
        "mixed/part1.jsonl": in_lines(pairs[:20]),
        "mixed/PART2.JSONL": in_lines(pairs[20:40]),
        "mixed/part3.jsonl.gz": gzip.compress(in_lines(pairs[40:])),
        "lines.json": in_lines(pairs),
        "semicolon.csv": table,
    }.items():
        write(folder / name, content)
    sizes = {"placeholders.jsonl": 60, "split": 48, "mixed": 60, "lines.json": 60, "semicolon.csv": 60}
    return {name: (str(folder / name), size) for name, size in (sizes | {"int-category.parquet": 60}).items()}


def test_forms_that_people_have(tmp_path):
    for name, (path, size) in write_cases(tmp_path).items():
        examples, discarded = load_examples(path)
        split = split_examples(examples, 0.3, 0.05, seed=42)
        assert (len(examples), len(discarded), split.groups) == (size, 0, []), name
        assert len(split.heldout) == round(0.3 * size) and {*examples.texts("context")} == {""}, name
    assert count_categories(load_examples(str(tmp_path / "int-category.parquet"))[0]) == {"0": 30, "1": 30}
    test = instructions(str(tmp_path / "split" / "test.jsonl"))
    assert len(test) == 12 and not {*test} & {*instructions(str(tmp_path / "split"))}


# ---- one file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("name", ["rows.jsonl", "ROWS.JSON", "rows.csv", "rows.parquet"])
def test_packed_files(tmp_path, name, suffix):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "unpacked.parquet")
    content = {
        "rows.jsonl": in_lines(),
        "ROWS.JSON": json.dumps(ROWS).encode(),
        "rows.csv": in_table(",").encode(),
        "rows.parquet": (tmp_path / "unpacked.parquet").read_bytes(),
    }[name]
    check_is_whole(write(tmp_path / f"{name}.{suffix}", PACKERS[suffix](content)))


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("spoil", [lambda content: content[:-9], lambda content: b"no archive at all"])
def test_a_damaged_packed_file_is_named(tmp_path, suffix, spoil):
    path = write(tmp_path / f"rows.jsonl.{suffix}", spoil(PACKERS[suffix](in_lines())))
    with pytest.raises(UserError, match=rf"^{path}: can't be read \(.+\)$"):
        load_examples(path, on_bad_row="skip")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv"])
def test_encodings_that_are_certain(tmp_path, name, encoding):
    text = {
        "rows.jsonl": in_lines().decode(),
        "rows.json": json.dumps(ROWS, indent=1, ensure_ascii=False),
        "rows.csv": in_table("\t"),
    }[name]
    check_is_whole(write(tmp_path / name, text.encode(encoding)))


def test_other_encodings_are_refused_with_what_to_do(tmp_path):
    rows = [{"instruction": "What is it?", "response": "caf\xe9"}]
    for name, where, text in (
        ("rows.jsonl", ":1", json.dumps(rows[0], ensure_ascii=False)),
        ("rows.json", "", json.dumps(rows, ensure_ascii=False)),
        ("rows.csv", r":\d", "instruction,response\na,caf\xe9\n"),
    ):
        path = write(tmp_path / name, text.encode("latin-1"))
        with pytest.raises(UserError, match=rf"^{path}{where}: not .*(?i:utf-8).*; convert the file: iconv "):
            load_examples(path)
    for encoding, name, text in (
        ("gb18030", "GB18030", "彗星是冰和尘埃的球体。"),
        ("cp1251", "WINDOWS-1251", "Кометы из льда."),
    ):
        path = write(tmp_path / "rows.jsonl", json.dumps({"response": text * 9}, ensure_ascii=False).encode(encoding))
        with pytest.raises(UserError, match=f"iconv -f {name} -t UTF-8"):
            load_examples(path)
    path = write(tmp_path / "odd.csv", codecs.BOM_UTF16_LE + "instruction,response\na,b\n".encode("utf-16-le") + b"x")
    with pytest.raises(UserError, match=r"odd\.csv:"):
        load_examples(path)


def test_columns_in_any_language(tmp_path):
    """Also where the file spells a letter and its mark as two characters, and the config as one."""
    rows = [{"指令": "什么是彗星", unicodedata.normalize("NFD", "réponse"): "彗星是冰和尘埃的球体。"}]
    path = write(tmp_path / "rows.jsonl", json.dumps(rows[0], ensure_ascii=False).encode())
    examples, _ = load_examples(path, {"instruction": "指令", "response": "réponse"})
    assert (examples[0].instruction, examples[0].response) == ("什么是彗星", "彗星是冰和尘埃的球体。")


def test_a_mark_of_utf_8_inside_is_no_part_of_a_row(tmp_path):
    check_is_whole(write(tmp_path / "rows.jsonl", b"\xef\xbb\xbf" + b"\xef\xbb\xbf".join(in_lines().splitlines(True))))


def test_lines_in_json_and_a_list_in_jsonl(tmp_path):
    check_is_whole(write(tmp_path / "lines.json", b"\n" + in_lines()))
    check_is_whole(write(tmp_path / "list.jsonl", json.dumps(ROWS, indent=2)))
    check_is_whole(write(tmp_path / "line.jsonl", json.dumps(ROWS)))
    check_is_whole(write(tmp_path / "lines.ndjson", in_lines()))
    bad = write(tmp_path / "bad.json", in_lines() + b'{"instruction": "cut')
    with pytest.raises(UserError, match=r"bad.json:5: not JSON"):
        load_examples(bad)
    lists = write(tmp_path / "lists.jsonl", b'["a"]\n["b"]\n')
    with pytest.raises(UserError, match=r"lists.jsonl:1: a row must be an object with named fields, this is list"):
        load_examples(lists)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(tmp_path, delimiter):
    check_is_whole(write(tmp_path / "rows.csv", in_table(delimiter)))
    check_is_whole(write(tmp_path / "rows.tsv", "\ufeff" + in_table(delimiter)))


def test_the_header_alone_says_the_delimiter(tmp_path):
    path = write(tmp_path / "rows.csv", "instruction,response\na;b;c;d,e;f;g\n")
    assert load_examples(path)[0].texts("response") == ["e;f;g"]


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_no_file_of_a_folder_is_skipped(tmp_path, capsys):
    for number, name in enumerate(["PART2.JSONL", "more/part4.csv.gz", "part1.jsonl", "part3.jsonl.gz"]):
        row = ROWS[number : number + 1]
        content = in_lines(row) if "csv" not in name else f"instruction,response\n{row[0]['instruction']},b\n".encode()
        write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    for name in ("README.md", "LICENSE", "dataset_infos.json", ".hidden.jsonl", ".git/part5.jsonl"):
        write(tmp_path / name, "{}")
    assert instructions(str(tmp_path)) == [row["instruction"] for row in ROWS]
    assert capsys.readouterr().err == f"{tmp_path}: LICENSE, README.md, dataset_infos.json beside the rows, not read\n"


@pytest.mark.parametrize("name", ["part2.xlsx", "part2.jsonl.zip", "part2", "part2.arrow", "part2.jsonl.7z"])
def test_a_file_that_can_not_be_read_stops_the_folder(tmp_path, name):
    write(tmp_path / "part1.jsonl", in_lines())
    write(tmp_path / name, b"rows, perhaps")
    with pytest.raises(UserError, match=rf"^{tmp_path / name}: no kind of file that rows are read from .* move it out"):
        load_examples(str(tmp_path), on_bad_row="skip")


def test_a_file_that_is_there_packed_and_unpacked_is_no_two_files(tmp_path):
    write(tmp_path / "rows.jsonl", in_lines())
    write(tmp_path / "rows.jsonl.gz", gzip.compress(in_lines()))
    with pytest.raises(UserError, match=r"rows.jsonl.gz lies there unpacked too, and its rows would count twice"):
        load_examples(str(tmp_path))


SPLITS = {
    "plain": (["train.jsonl"], ["test.jsonl", "validation.jsonl"]),
    "hub": (["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"], ["data/test-00000-of-00001.jsonl"]),
    "folders": (["train/a.jsonl", "train/b.jsonl"], ["dev/a.jsonl", "test/a.jsonl"]),
    "names": (["my_train.jsonl"], ["my_eval.jsonl", "my_val2.jsonl", "my_held_out.jsonl"]),
    "packed, capital": (["TRAIN.JSONL"], ["Test.jsonl.gz"]),
}


@pytest.mark.parametrize(("train", "others"), SPLITS.values(), ids=SPLITS)
def test_only_the_training_part_of_a_folder_is_read(tmp_path, train, others, capsys):
    for number, name in enumerate(train):
        write(tmp_path / name, in_lines(ROWS[number : number + 1]))
    for name in others:
        write(tmp_path / name, PACKERS["gz"](in_lines()) if name.endswith("gz") else in_lines())
    assert instructions(str(tmp_path)) == [row["instruction"] for row in ROWS[: len(train)]]
    left = ", ".join(sorted(others))
    said = f"{tmp_path}: {', '.join(train)} read; {left} left out as another part than training\n"
    assert capsys.readouterr().err == said
    assert instructions(str(tmp_path)) and capsys.readouterr().err == "", "said once"


@pytest.mark.parametrize("names", [["test.jsonl"], ["a.jsonl", "test.jsonl"], ["a.jsonl", "dev.csv", "train.jsonl"]])
def test_a_folder_whose_parts_are_not_clear_is_refused(tmp_path, names):
    for name in names:
        write(tmp_path / name, in_lines())
    with pytest.raises(UserError, match=r"(test.jsonl|dev.csv) named as another part .*; name the files to train on"):
        load_examples(str(tmp_path))


def test_a_part_is_read_where_it_is_named_itself(tmp_path):
    write(tmp_path / "train.jsonl", in_lines(ROWS[:1]))
    sources = [str(tmp_path), write(tmp_path / "test.jsonl", in_lines(ROWS[1:]))]
    assert instructions(sources) == [row["instruction"] for row in ROWS]


def test_parts_of_a_folder_saved_by_datasets(tmp_path):
    from datasets import Dataset, DatasetDict

    for names in (("train", "test"), ("train_sft", "test_sft")):
        parts = zip(names, (ROWS[:1], ROWS[1:]), strict=True)
        DatasetDict({name: Dataset.from_list(rows) for name, rows in parts}).save_to_disk(tmp_path / names[0])
        assert instructions(str(tmp_path / names[0])) == ["What is 0?"]
    DatasetDict({"validation": Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "other")
    with pytest.raises(UserError, match="other: validation named as another part than training; name the files"):
        load_examples(str(tmp_path / "other"))


def test_a_folder_of_llamafactory_is_its_rows(tmp_path):
    write(tmp_path / "dataset_info.json", json.dumps({"own": {"file_name": "own.json"}}))
    rows = [{"instruction": row["instruction"], "input": "<noinput>", "output": row["response"]} for row in ROWS]
    write(tmp_path / "own.json", json.dumps(rows))
    examples, _ = load_examples(str(tmp_path), {"context": "input", "response": "output"})
    assert examples.texts("response") == [row["response"] for row in ROWS] and {*examples.texts("context")} == {""}


PARTS = {
    "train": "train train-00000-of-00002 train_sft Train1 trainset training TRAIN my.train x/train/rows train/latest",
    "other": "test Test-1 tests validation val dev eval my_held-out holdout testset a/test/train_x.y/val/rows",
    "": "latest contest trainer evaluated devices values rows restrain detest valley",
}


@pytest.mark.parametrize(("part", "name"), [(part, name) for part, names in PARTS.items() for name in names.split()])
def test_part_of(part, name):
    assert part_of(f"{name}.jsonl") == part


@pytest.mark.parametrize("name", ["devtest", "dev_test", "myTest", "squadDev", "testA", "TrainTest"])
def test_names_of_parts_may_be_joined(name):
    assert part_of(f"data/{name}.jsonl") == "other"


def test_what_no_name_says_is_read_with_a_word(tmp_path, capsys):
    write(tmp_path / "train.jsonl", in_lines(ROWS[:1]))
    write(tmp_path / "more.jsonl", in_lines(ROWS[1:]))
    assert len(instructions(str(tmp_path))) == 4
    assert capsys.readouterr().err == (
        f"{tmp_path}: more.jsonl read too, though only train.jsonl named as training rows\n"
    )


@pytest.mark.parametrize(
    ("first", "second", "how"),
    [
        ("rows.json", "rows.parquet", "as rows.json"),
        ("rows.jsonl.gz", "rows.jsonl.zst", "as rows.jsonl.gz"),
        ("data/rows.csv", "data/rows.tsv", "as data/rows.csv"),
    ],
)
def test_a_file_that_is_there_in_two_forms_is_no_two_files(tmp_path, first, second, how):
    write(tmp_path / first, b"")
    write(tmp_path / second, b"")
    with pytest.raises(
        UserError, match=f"{second} lies there {how} too, and its rows would count twice; move one away"
    ):
        load_examples(str(tmp_path))


# ---- what a folder's README.md declares ------------------------------------------------------------------------------


def declare(folder: Path, configs: object) -> str:
    for number, name in enumerate(("a.jsonl", "held/b.jsonl", "c.jsonl")):
        write(folder / name, in_lines(ROWS[number : number + 1]))
    write(folder / "README.md", f"---\nlicense: mit\nconfigs: {json.dumps(configs)}\n---\n# Rows\n")
    return str(folder)


DECLARED = {
    "splits": [{"data_files": [{"split": "train", "path": "a.jsonl"}, {"split": "test", "path": ["held/*", "c*"]}]}],
    "mapping": [{"data_files": {"train": ["a.jsonl"], "validation": "held/b.jsonl"}}],
    "pattern": [{"data_files": "a.*"}],
    "default": [{"config_name": "x", "data_files": "c.jsonl"}, {"config_name": "default", "data_files": "a.jsonl"}],
    "marked": [{"config_name": "x", "data_files": "c.jsonl"}, {"default": True, "data_files": "a.jsonl"}],
}


@pytest.mark.parametrize("configs", DECLARED.values(), ids=DECLARED)
def test_only_the_training_part_that_the_readme_declares_is_read(tmp_path, configs, capsys):
    assert instructions(declare(tmp_path, configs)) == ["What is 0?"]
    assert "a.jsonl read; c.jsonl, held/b.jsonl left out as another part than training" in capsys.readouterr().err


@pytest.mark.parametrize("gone", ["gone-*.jsonl", "https://example.org/rows.jsonl", "../rows.jsonl", "/etc/*", ""])
def test_rows_that_a_readme_declares_and_that_are_not_there(tmp_path, gone):
    """Those of the training part are not passed over; another part may lie elsewhere."""
    with pytest.raises(UserError, match=r"README.md: of the training part it names '"):
        load_examples(declare(tmp_path, [{"data_files": ["a.jsonl", gone]}]))
    assert instructions(declare(tmp_path, [{"data_files": {"train": "a.jsonl", "test": gone}}])) == ["What is 0?"]


def test_what_is_not_clear_in_a_readme_is_refused_and_what_says_nothing_is_nothing(tmp_path):
    several = [{"config_name": name, "data_files": f"{name}.jsonl"} for name in "ac"]
    with pytest.raises(UserError, match=r"README.md: several configurations \(a, c\); name the files of one"):
        load_examples(declare(tmp_path, several))
    with pytest.raises(UserError, match="named as another part than training"):
        load_examples(declare(tmp_path, [{"data_files": {"test": "a.jsonl"}}]))
    for nothing in ([], [{"config_name": "default"}], "x", [{"data_files": 3}], [None]):
        assert len(instructions(declare(tmp_path, nothing))) == 3
    write(tmp_path / "README.md", b"---\nconfigs: [\n---\n\xff")
    assert len(instructions(str(tmp_path))) == 3


# ---- what datasets saved ---------------------------------------------------------------------------------------------


def test_a_damaged_folder_of_datasets_is_named(tmp_path):
    from datasets import Dataset

    for name, spoil in {
        "cut": lambda folder: (folder / "state.json").write_text("{"),
        "gone": lambda folder: (folder / "data-00000-of-00001.arrow").unlink(),
        "damaged": lambda folder: (folder / "data-00000-of-00001.arrow").write_bytes(b"xx"),
    }.items():
        Dataset.from_list(ROWS).save_to_disk(tmp_path / name)
        spoil(tmp_path / name)
        with pytest.raises(UserError, match=rf"^{tmp_path / name}: saved by datasets, and can't be read \(.+\); save"):
            load_examples(str(tmp_path / name))


def test_classes_have_their_names(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Value

    kinds = {"instruction": Value("string"), "response": Value("string"), "category": ClassLabel(names=["qa", "sum"])}
    numbered = [row | {"category": kind} for row, kind in zip(ROWS, (0, 1, -1, None), strict=True)]
    dataset = Dataset.from_list(numbered, features=Features(kinds))
    dataset.save_to_disk(tmp_path / "saved")
    dataset.to_parquet(tmp_path / "rows.parquet")
    for name in ("saved", "rows.parquet"):
        assert load_examples(str(tmp_path / name))[0].texts("category") == ["qa", "sum", "", ""], name


# ---- tables ----------------------------------------------------------------------------------------------------------

TABLES = {
    "excel": "sep=;\r\ninstruction;response;category\r\na;b;c\r\n;;\r\nd;e;f\r\n;;\r\n",
    "quoted": '"sep=,"\ninstruction,response,category\na,b,c\nd,e,f\n',
    "blank": "\n  \ninstruction,response,category\na,b,c\n\n   \nd,e,f\n",
    "unnamed": "instruction,response,category,,\na,b,c,,\nd,e,f,,\n",
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_tables_as_programs_write_them(tmp_path, table):
    examples, discarded = load_examples(write(tmp_path / "rows.csv", table))
    assert [(row.instruction, row.response, row.category) for row in examples] == [("a", "b", "c"), ("d", "e", "f")]
    assert not discarded


def test_a_tab_separates_a_tsv_whatever_else_its_names_hold(tmp_path):
    path = write(tmp_path / "rows.tsv", "instruction, as asked\tresponse, by us, long\na\tb\n")
    columns = {"instruction": "instruction, as asked", "response": "response, by us, long"}
    assert [row.response for row in load_examples(path, columns)[0]] == ["b"]


def test_a_fault_of_a_table_is_named_by_its_line(tmp_path):
    path = write(tmp_path / "rows.csv", 'sep=,\ninstruction,response\na,"b"\n"c" x,d\n')
    with pytest.raises(UserError, match=rf"^{path}:4: not a CSV file"):
        load_examples(path)
    path = write(tmp_path / "short.csv", 'sep=,\ninstruction,response\n"a\nb",c\nd\n')
    with pytest.raises(UserError, match=rf"^{path}:5: another number of columns"):
        load_examples(path)


def test_two_columns_of_one_name_are_refused(tmp_path):
    path = write(tmp_path / "rows.csv", "instruction,response, response\na,b,c\n")
    arrays = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
    pq.write_table(pa.Table.from_arrays(arrays, ["instruction", "response", "response"]), tmp_path / "rows.parquet")
    for each in (path, str(tmp_path / "rows.parquet")):
        with pytest.raises(UserError, match=f"^{each}: two columns are named 'response'; rename one"):
            load_examples(each)


def test_what_is_no_text_is_not_said_to_be_in_another_encoding(tmp_path):
    for name in ("rows.csv", "rows.jsonl"):
        path = write(tmp_path / name, gzip.compress(in_lines()))
        with pytest.raises(UserError, match="it is no text at all") as refused:
            load_examples(path)
        assert "iconv" not in str(refused.value)


def test_what_lies_beside_texts_is_named(tmp_path, capsys):
    for name in ("a.txt", "b.jsonl", "more/c.txt", ".hidden"):
        write(tmp_path / name, b"A text.")
    assert [text.id for text in read_texts(tmp_path)] == ["a.txt"]
    assert capsys.readouterr().err == f"{tmp_path}: b.jsonl, more beside the texts, not read\n"
