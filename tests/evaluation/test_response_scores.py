"""A personal model: the same fit with the forward template, and its evaluation."""

import json

import pytest
from markupsafe import escape

from revinst.evaluation.memorisation import WINDOW, VerbatimIndex
from revinst.evaluation.style import compare_styles, describe_style, distance, find_greeting, find_sign_off
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
    assert run_command("evaluate", personal, "--samples", 3, "--temperature", 1) == 2
    assert "writes responses" in capsys.readouterr().err


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
