"""A text is read in one way by fit, evaluate --input, generate, corpus, demo and another run's likelihood."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from revinst.corpus.candidates import Writer
from revinst.corpus.dropped import KEPT, filter_records
from revinst.corpus.filters import Thresholds
from revinst.data.datamodule import build_data
from revinst.data.formats import BadRecord
from revinst.data.prompt import render_prompt
from revinst.data.texts import read_texts
from revinst.errors import UserError
from revinst.inference import trained as opening
from revinst.inference.engine.engine import GenerationSettings
from revinst.inference.picks import ONE
from revinst.inference.trained import open_trained
from tests.commands.test_evaluation_folders import fit, write_pairs
from tests.tiny import run_in_process

ROWS = [
    {
        "id": "a",
        "instruction": "What is a comet?",
        "context": "Comets [3] are old.",
        "response": " Ice [1] and dust[22]. ",
    },
    {"id": "b", "instruction": "What is ash?", "context": "", "response": "What a fire leaves.\n[4]"},
    {"instruction": "What is salt?", "context": " It is [5]", "response": "\ufeffSodium, and [] [1234] chlorine [6]."},
]
SETTINGS = {"strip_citations": "true", "context": "include", "cut": "middle"}


@pytest.fixture(scope="module")
def trained(tiny_llama, tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    many = [{"instruction": f"What is {n}?", "response": f"A number [{n}], {n}."} for n in range(40)]
    write_pairs(runs / "rows.jsonl", [*many, *ROWS])
    assert fit(runs, "one", tiny_llama) == 0
    return runs / "one"


def set_data(run: Path, **settings: str) -> Path:
    """The run with other keys in its config, as if it had been trained with them."""
    lines = (run / "config.yaml").read_text().splitlines(keepends=True)
    for name, value in settings.items():
        (place,) = [n for n, line in enumerate(lines) if line.startswith(f"  {name}: ")]
        lines[place] = f"  {name}: {value}\n"
    (run / "config.yaml").write_text("".join(lines))
    return run


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return shutil.copytree(trained, tmp_path / "one")


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The prompts that were encoded to be answered."""
    prompts: list[str] = []
    encode = opening.encode_to_generate
    monkeypatch.setattr(
        opening,
        "encode_to_generate",
        lambda found, *args, **options: (
            prompts.extend(prompt.text for prompt in found) or encode(found, *args, **options)
        ),
    )
    return prompts


@pytest.mark.parametrize("settings", [{}, SETTINGS], ids=str)
def test_evaluate_and_generate_read_a_row_as_fit_did(run, tmp_path, read, settings):
    set_data(run, **settings)
    rows = write_pairs(tmp_path / "new.jsonl", ROWS)
    trained = open_trained(str(run))
    data = build_data(replace(trained.config, data=replace(trained.config.data, source=str(rows))))
    template = trained.template
    expected = [render_prompt(template, example, trained.with_context).text for example in data.load_examples()]
    assert ("[1]" in "".join(expected)) == ("strip_citations" not in settings)
    assert ("Comets" in "".join(expected)) == ("context" in settings)
    args = ("--input", rows, "--max_new_tokens", 2, "--allow_trained_rows", "--name", "new")
    assert run_in_process("evaluate", run, *args) == 0
    assert read[: len(ROWS)] == expected
    read.clear()
    args = ("--output", tmp_path / "new.out.jsonl", "--max_new_tokens", 2, "--pick", "greedy")
    assert run_in_process("generate", run, rows, *args) == 0
    assert read == expected
    made, scored = (
        [json.loads(line) for line in path.open()]
        for path in (tmp_path / "new.out.jsonl", run / "evaluation" / "new" / "predictions.jsonl")
    )
    for name in ("id", "response", "context", "prediction", "reference"):
        assert [row[name] for row in made] == [row[name] for row in scored]


def test_another_context_is_another_text(run, tmp_path, read):
    """generate writes anew what has changed, and nothing else."""
    set_data(run, context="include")
    args = ("generate", run, tmp_path / "new.jsonl", "--output", tmp_path / "out.jsonl", "--max_new_tokens", 2)
    write_pairs(tmp_path / "new.jsonl", ROWS[:2])
    assert run_in_process(*args) == 0
    write_pairs(tmp_path / "new.jsonl", [ROWS[0] | {"context": "Comets are new."}, ROWS[1]])
    assert run_in_process(*args) == 0
    assert [json.loads(line)["context"] for line in (tmp_path / "out.jsonl").open()] == ["Comets are new.", ""]


def test_marks_alone_are_no_text(run, tmp_path, capsys):
    set_data(run, strip_citations="true")
    rows = write_pairs(tmp_path / "new.jsonl", [ROWS[0], {"instruction": "Why?", "response": "[1][2] [3]"}])
    (tmp_path / "marks.txt").write_text("[1]\n[2]\n")
    said = "the response holds nothing but citation marks"
    for command, where in (
        (("evaluate", run, "--input", rows), f"{rows}:2: "),
        (("generate", run, rows, "--output", tmp_path / "out.jsonl"), f"{rows}:2: "),
        (("generate", run, tmp_path / "marks.txt", "--output", tmp_path / "out.jsonl"), f"{tmp_path / 'marks.txt'}: "),
    ):
        assert run_in_process(*command) == 2
        error = capsys.readouterr().err
        assert where + said in error.splitlines()[-1] and "Traceback" not in error
    assert not (tmp_path / "out.jsonl").exists()
    trained, settings = open_trained(str(run)), GenerationSettings(max_new_tokens=2)
    demo = Writer(trained, trained.load(settings), settings)
    with pytest.raises(BadRecord, match=said):
        demo.suggest(" [1][2] ", ONE, 1.0)
    assert demo.suggest("Ice [1].", ONE, 1.0) == demo.suggest("Ice.", ONE, 1.0)


def test_corpus_writes_for_the_text_that_it_would_have_been_trained_on(run, read):
    """The owner's text stays as it is; one that holds nothing to read gets no instruction, and is dropped for that."""
    trained = open_trained(str(set_data(run, strip_citations="true")))
    settings = GenerationSettings(max_new_tokens=3)
    model, texts = trained.load(settings), ("Ice [1] and dust.", "[1][2]", "Ice and dust.")
    rows = [{"id": str(n), "text": text} for n, text in enumerate(texts)]
    writer = Writer(trained, model, settings)
    written = writer.write_records(rows)
    assert [row["text"] for row in written] == list(texts)
    assert len(read) == 2 and read[0] == read[1] and "[1]" not in read[0]
    for name in ("instruction", "log_p", "gain", "ifd", "rifd"):
        assert written[0][name] == (written[2][name] if name == "instruction" else pytest.approx(written[2][name]))
    assert written[1]["instruction"] == "" and written[1]["candidates"] == []
    dropped = filter_records(written, Thresholds(), (), False)
    assert dropped.failed[1] == 0 != KEPT
    unstripped = Writer(replace(trained, strip_citations=False), model, settings)
    assert unstripped.write_records(rows[1:2])[0]["candidates"] != []


def test_rows_with_a_context_are_left_out_where_fit_leaves_them_out(run, tmp_path, capsys):
    trained = open_trained(str(set_data(run, context="exclude_rows")))
    rows = write_pairs(tmp_path / "new.jsonl", [*ROWS, {"instruction": "Why is it so?", "response": "It was cold."}])
    assert [row.instruction for row in trained.load_rows(str(rows))] == ["What is ash?", "Why is it so?"]
    assert "2 rows have a context and are left out" in capsys.readouterr().err


def test_columns_of_the_run(run, tmp_path, read):
    """Where the file has them; else the fields' own names."""
    named = [{"prompt": row["instruction"], "completion": row["response"], "id": f"n{n}"} for n, row in enumerate(ROWS)]
    source = write_pairs(tmp_path / "named.jsonl", named)
    for pairs in (named, ROWS):
        rows = write_pairs(tmp_path / "new.jsonl", pairs)
        trained = open_trained(str(run))
        columns = {"instruction": "prompt", "response": "completion"}
        trained.config = replace(trained.config, data=replace(trained.config.data, columns=columns))
        assert [row.response for row in trained.load_rows(str(rows))] == [row["response"].strip() for row in ROWS]
        texts = list(read_texts(rows, None, trained.columns))
        assert [text.response for text in texts] == [row["response"].strip() for row in ROWS]
        assert [text.instruction for text in texts] == [row["instruction"] for row in ROWS]
    with pytest.raises(UserError, match=r"named.jsonl:1: no text in 'response' \(the row has prompt, completion, id\)"):
        list(read_texts(source))


def test_another_runs_likelihood_is_of_the_text_that_it_reads(run):
    """--forward RUN: it was trained on texts without marks, and so are those that it judges."""
    from revinst.data.examples import Example

    trained = open_trained(str(set_data(run, strip_citations="true")))
    assert trained.prepare(Example("a", "Why?", "", "Ice [1].", "")).response == "Ice."
    with pytest.raises(UserError, match="row a: the response holds nothing but citation marks"):
        trained.prepare(Example("a", "Why?", "", "[1]", ""))
