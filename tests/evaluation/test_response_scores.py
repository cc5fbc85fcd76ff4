"""A personal model: the same fit with the forward template, and its evaluation."""

import json
import re
from pathlib import Path

import pytest
from markupsafe import escape

from revinst.data.formats import BadRecord
from revinst.data.prompt import load_template
from revinst.errors import UserError
from revinst.evaluation.memorisation import WINDOW, VerbatimIndex
from revinst.evaluation.report import count
from revinst.evaluation.style import compare_styles, describe_style, distance, find_greeting, find_sign_off
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.trained import open_trained
from revinst.pages.writing import LetterWriter
from scripts.made_mail import PLAIN, SIGN_OFF, write_mbox
from tests.commands.test_run import fit, run_command

LETTERS = [f"Hi {name},\n\n{text}{SIGN_OFF}" for name, _, text in PLAIN]


def test_longest_run():
    index = VerbatimIndex(["One two three four five six seven.", "five six seven eight nine ten", "a a a a a a b"])
    assert index.longest_run("zero two THREE four, five six seven eight nine") == "two three four five six seven"
    assert index.longest_run("five six seven eight nine ten") == "five six seven eight nine ten"
    assert index.longest_run("six seven five six seven") == "", "a run does not go on in the next text"
    assert index.longest_run("one two three four") == "" and WINDOW == 5
    assert index.longest_run("a a a a a a a a b") == "a a a a a a b"
    assert index.longest_run("") == "" and VerbatimIndex([]).longest_run("one two three four five") == ""


def test_longest_run_equals_brute_force():
    index = VerbatimIndex(LETTERS[:20])
    for text in [*LETTERS[20:], LETTERS[3][40:] + LETTERS[5][:90]]:
        words = normalised(text)
        corpora = [f" {' '.join(normalised(letter))} " for letter in LETTERS[:20]]
        runs = [(stop - start) for start in range(len(words)) for stop in range(start + WINDOW, len(words) + 1)
                if any(f" {' '.join(words[start:stop])} " in corpus for corpus in corpora)]  # fmt: skip
        assert len(index.longest_run(text).split()) == max(runs, default=0)


def normalised(text):
    from revinst.data.words import normalise

    return normalise(text).split()


def test_style():
    assert find_greeting(LETTERS[0]) == "hi" and find_sign_off(LETTERS[0]) == "cheers mara"
    assert find_greeting("No. I will not come.\n\nReally.") == "" and find_sign_off("One line only") == ""
    own = describe_style(LETTERS)
    assert own["greeting"] == own["sign_off"] == 1 and 30 < own["words"] < 50 and 5 < own["words_a_sentence"] < 25
    assert distance(["a", "b"], ["a", "a"]) == 0.5 and distance([], ["a"]) == 1 and distance([], []) == 0
    same, others = (
        compare_styles(LETTERS, LETTERS),
        compare_styles(["Colourless green ideas sleep furiously."] * 3, LETTERS),
    )
    assert set(same.values()) == {0.0} and min(others.values()) > 0.5
    halves = compare_styles(LETTERS[::2], LETTERS[1::2])
    assert 0 < halves["function_words"] < 0.3 < others["function_words"]


@pytest.fixture(scope="module")
def personal(tiny_llama, tmp_path_factory):
    folder = tmp_path_factory.mktemp("personal")
    rows = [
        {"instruction": f"Write to {name} about: {subject}", "response": text}
        for (name, subject, _), text in zip(PLAIN, LETTERS, strict=True)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"data.source": folder / "rows.jsonl", "data.template": "forward", "data.heldout_fraction": 0.2}
    options |= {"trainer.max_steps": 24, "checkpoint.every_steps": 24, "samples.every_steps": 0, "model.lr": 0.02}
    assert fit(folder, "personal", tiny_llama, **options) == 0
    return folder / "personal"


def test_forward_evaluation(personal, capsys):
    assert run_command("evaluate", personal, "--max_new_tokens", 20) == 0
    folder = personal / "evaluation" / "max-20"
    scores = json.loads((folder / "scores.json").read_text())
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert scores["n"] == len(rows) == 8 and {row["reference"] for row in rows} <= set(LETTERS)
    assert scores["tuned"]["loss"] < scores["base"]["loss"] - 0.1, "of a random model"
    assert scores["gain"]["log_p_a_token"]["wins"] == 8
    assert scores["tuned"]["perplexity"] == pytest.approx(2.718281828 ** scores["tuned"]["loss"])
    assert scores["own_style"]["sign_off"] == 1 and 0 <= scores["tuned"]["style"]["distance"]["function_words"] <= 1
    assert scores["memorisation"]["warned_from_words"] == 12
    assert "perplexity" in capsys.readouterr().out
    report = (folder / "report.html").read_text()
    assert all(str(escape(row["prediction"])) in report and str(escape(row["reference"])) in report for row in rows)
    assert f"{scores['base']['perplexity']:.2f}" in report and "<script" not in report
    assert report.count('<tr id="row-') == 8 and "Few rows." in report and "revinst evaluate" in report
    assert run_command("evaluate", personal, "--samples", 3, "--temperature", 1) == 2
    assert "writes responses" in capsys.readouterr().err


def test_a_text_may_be_longer_than_an_instruction(personal):
    """In `evaluate` as in `generate`; the folder is that of the defaults."""
    assert run_command("evaluate", personal, "--limit", 2) == 0
    known = json.loads((personal / "evaluation" / "limit-2" / "predictions.settings.json").read_text())
    seq_len = open_trained(str(personal)).seq_len
    assert known["generation"]["max_new_tokens"] == min(400, seq_len // 2) > 100
    assert [load_template(name).new_tokens(2048) for name in ("forward", "blog")] == [400, 100]


def test_memorised_text_is_warned_of(personal, monkeypatch):
    """A model that recites a training letter: the row, the run and its length are in the warning list."""
    from revinst.evaluation.memorisation import find_memorised
    from revinst.inference.predictions import Prediction

    made = [Prediction("x", "", "", "", LETTERS[0], 5, "eos"), Prediction("y", "", "", "", "Hi, no news.", 5, "eos")]
    runs, summary = find_memorised(made, LETTERS[30:], LETTERS[:30])
    assert [row["id"] for row in summary["warnings"]] == ["x"] and runs[1] == ""
    assert summary["longest"] == len(normalised(LETTERS[0])) > 12 > summary["own_longest"]


def test_a_run_that_writes_responses_makes_no_corpus(personal, tmp_path, capsys):
    mbox = tmp_path / "mail.mbox"
    write_mbox(mbox)
    assert run_command("corpus", mbox, tmp_path / "out", "--run", personal, "--me", "mara@example.org") == 2
    assert "not instructions" in capsys.readouterr().err


INSTRUCTIONS = ["Write to Ann about the boat.", "Write to Bo about the keys."]


def write_instructions(folder, **more) -> Path:
    path = folder / "instructions.jsonl"
    path.write_text("".join(json.dumps({"task": text} | more) + "\n" for text in INSTRUCTIONS))
    return path


def read_rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.wide
def test_texts_for_instructions(personal, tmp_path, capsys):
    """Each row holds the instruction under its name; a second call with what it has made writes nothing anew."""
    command = ["generate", personal, write_instructions(tmp_path), "--column", "task", "--output", tmp_path / "t.jsonl"]
    assert run_command(*command, "--max_new_tokens", 12) == 0
    rows = read_rows(tmp_path / "t.jsonl")
    assert [row["instruction"] for row in rows] == INSTRUCTIONS and all(row["num_tokens"] for row in rows)
    assert "2 responses in" in capsys.readouterr().out and not any("response" in row for row in rows)
    assert run_command(*command, "--max_new_tokens", 12) == 0
    assert read_rows(tmp_path / "t.jsonl") == rows and "responses:" not in capsys.readouterr().err
    sampled = ["--max_new_tokens", 12, "--temperature", 1.5, "--samples", 3, "--output", tmp_path / "s.jsonl"]
    assert run_command(*command, *sampled) == 0
    for row in read_rows(tmp_path / "s.jsonl"):
        assert row["samples"][0] == row["prediction"] and len(set(row["samples"])) == 3
    assert run_command(*command, "--samples", 2) == 2 and run_command(*command, "--context", "task") == 2
    said = capsys.readouterr().err
    assert "give --temperature" in said and "this run reads no context" in said
    assert run_command(*command[:3], "--column", "nothing", *command[5:]) == 2
    assert "no text in 'nothing' (the row has task)" in capsys.readouterr().err


@pytest.mark.wide
def test_placeholders_are_put_back(personal, tmp_path, capsys):
    """In what is written, whatever was written before; what the model itself wrote stays beside it."""
    path, out = write_instructions(tmp_path), tmp_path / "t.jsonl"
    command = ["generate", personal, path, "--column", "task", "--output", out, "--max_new_tokens", 12]
    assert run_command(*command) == 0
    rows = read_rows(out)
    written = rows[0]["prediction"] = "Dear [NAME_1], write to [EMAIL_9]. [TEXT_1]"
    out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stands_for = {"[NAME_1]": "Ann", "[TEXT_1]": "[NAME_1]"}
    (tmp_path / "own.placeholders.json").write_text(json.dumps(stands_for))
    for _ in range(2):
        assert run_command(*command, "--placeholders", tmp_path / "own.placeholders.json") == 0
        first = read_rows(out)[0]
        assert first["prediction"] == "Dear Ann, write to [EMAIL_9]. [NAME_1]" and first["redacted"] == written
    assert run_command(*command) == 0 and read_rows(out) == rows
    (tmp_path / "other.json").write_text('{"a": 1}')
    assert run_command(*command, "--placeholders", tmp_path / "other.json") == 2
    assert "no placeholders as revinst corpus --redact" in capsys.readouterr().err


@pytest.mark.wide
def test_card_and_modelfile_are_of_this_direction(personal, tmp_path):
    assert run_command("merge", personal, tmp_path / "merged", "--gguf", "q8_0", "--drift_rows", 0) == 0
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "writes the text an instruction asks for" in card and 'template.replace("{instruction}", text)' in card
    assert "Write to a friend" in card and "comet" not in card and "max_new_tokens=128" in card
    modelfile = (tmp_path / "merged" / "gguf" / "Modelfile").read_text()
    assert "### Instruction:" in modelfile.split("{{ .Prompt }}")[0] and "### Response:" in modelfile.split("{{ .P")[1]
    assert "PARAMETER num_predict 128" in modelfile and "PARAMETER temperature 0.7" in modelfile


def test_words_and_units(personal, capsys):
    assert run_command("evaluate", personal, "--max_new_tokens", 20) == 0
    said = capsys.readouterr()
    assert "8 held-out texts in 8 groups" in said.out and "texts with a sign-off" in said.out and "100%" in said.out
    assert "instructions" not in said.err
    report = (personal / "evaluation" / "max-20" / "report.html").read_text()
    assert "words a sentence" in report and "your text" in report and "words_a_sentence</th>" not in report
    drawn = re.findall(r"<figcaption>(\S+) <small>", report)
    assert drawn[0] == "train/loss" and {"train/targets", "perf/tokens_per_s"} <= set(drawn), "all that was logged"
    assert report.count("<polyline") == len(drawn)
    assert count("group", 1) == "1 group" and count("row", 2000) == "2,000 rows"
    assert count("text", 1, ("holds", "hold")) == "1 text holds"


def test_letters_of_the_page(personal):
    import torch

    trained = open_trained(str(personal))
    settings = GenerationSettings(max_new_tokens=8, precision="fp32")
    letters = LetterWriter(trained, trained.load(settings), settings, {"[NAME_1]": "Ann"})
    with torch.inference_mode():
        (greedy,) = letters.write(INSTRUCTIONS[0], "", 3, 0.0, 8)
        drawn = letters.write(INSTRUCTIONS[0], "", 3, 1.5, 8)
        assert len(set(drawn)) == 3 and drawn == letters.write(INSTRUCTIONS[0], "", 3, 1.5, 8)
        assert isinstance(greedy, str)
        with pytest.raises(BadRecord, match="empty"):
            letters.write(" ", "", 1, 0.0, 8)
        with pytest.raises(UserError, match="leave 6 of 256"):
            letters.write(INSTRUCTIONS[0], "", 1, 0.0, 250)
    assert trained.writes_texts and trained.new_tokens == 128
