"""scripts/prompt_alone.py: the base with texts in its prompt, beside a personal model."""

import argparse
import json
import re
import sys
from pathlib import Path

import pytest

from revinst.data.examples import Example
from revinst.data.prompt import render_prompt
from revinst.errors import UserError
from revinst.inference.trained import Trained
from scripts import prompt_alone
from tests.commands.test_run import fit, run_command

ROWS = [
    {"instruction": f"Write of {thing}.", "response": f"I saw the {thing} today.\n\nIt was a fine {thing} indeed."}
    for thing in ("harbour", "garden", "castle", "market", "bridge", "orchard", "chapel", "meadow", "forest", "island")
]


@pytest.fixture
def own(tmp_path) -> Path:
    """A folder of `revinst corpus`: two rows are not for training, one has a canary, one several lines, one a slot."""
    folder = tmp_path / "own"
    folder.mkdir()
    changed = {2: "I saw the castle today. code EYDT-4892", 3: "Dear all,\nthe market was shut.", 4: "A {response}."}
    rows = [row | {"response": changed.get(number, row["response"])} for number, row in enumerate(ROWS)]
    parts = ["heldout", "val", *["train"] * 8]
    (folder / "dataset.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "provenance.jsonl").write_text("".join(json.dumps({"part": part}) + "\n" for part in parts))
    (tmp_path / "own.canaries.json").write_text(json.dumps({"canary 1: code": "EYDT-4892"}))
    return folder


def test_training_rows_are_shown_and_nothing_else(own, tiny_llama, tmp_path):
    assert [instruction for instruction, _ in prompt_alone.find_shown(own)] == [row["instruction"] for row in ROWS[5:]]
    trained = Trained(tmp_path, str(tiny_llama), "none", "forward", False, 256)
    options = argparse.Namespace(own=own, shots=3, seed=42)
    template = prompt_alone.show_texts(trained, tmp_path / "template.txt", options).template
    text = render_prompt(template, Example("1", "Write of the sea.", "", "The sea.", ""), False).text
    assert template.target == "response" and text.count("### Instruction:") == 4 == text.count("### Response:")
    assert text.endswith("### Instruction:\nWrite of the sea.\n\n### Response:\n")
    assert sum(row["response"] in text for row in ROWS[5:]) == 3 and not any(
        row["response"] in text for row in ROWS[:5]
    )
    assert sorted(template.headers) == ["### Input:", "### Instruction:", "### Response:"]
    with pytest.raises(UserError, match="5 training rows can be shown, --shots asks for 6"):
        prompt_alone.show_texts(trained, tmp_path / "template.txt", argparse.Namespace(own=own, shots=6, seed=42))


@pytest.mark.wide
def test_beside_a_run(own, tiny_llama, tmp_path, monkeypatch, capsys):
    """Base and run are those of `revinst evaluate`, whose predictions are not made again."""
    options = {"data.source": own / "dataset.jsonl", "data.template": "forward", "data.heldout_fraction": 0.3}
    options |= {"data.val_fraction": 0, "trainer.max_steps": 12, "samples.every_steps": 0, "model.lr": 0.02}
    assert fit(tmp_path, "run", tiny_llama, **options) == 0
    assert run_command("evaluate", tmp_path / "run", "--max_new_tokens", 12) == 0
    folder = tmp_path / "run" / "evaluation" / "max-12"
    scores, made = json.loads((folder / "scores.json").read_text()), (folder / "predictions.jsonl").read_bytes()
    capsys.readouterr()
    args = ["prompt_alone", str(own), str(tmp_path / "run"), "--shots", "2", "--max_new_tokens", "12"]
    monkeypatch.setattr(sys, "argv", args)
    assert prompt_alone.main() == 0
    told = capsys.readouterr().out
    losses = dict(re.findall(r"^\| (base|trained|base, 2 texts in the prompt) \| (\d+\.\d{3}) ", told, re.MULTILINE))
    assert losses["base"] == f"{scores['base']['loss']:.3f}" and losses["trained"] == f"{scores['tuned']['loss']:.3f}"
    assert len(losses) == 3 and losses["base, 2 texts in the prompt"] not in (losses["base"], losses["trained"])
    assert (folder / "predictions.jsonl").read_bytes() == made
    gain = scores["gain"]["log_p_a_token"]
    assert f"| base | {gain['difference']:+.3f} [{gain['ci95'][0]:+.3f}, {gain['ci95'][1]:+.3f}]" in told
    monkeypatch.setattr(sys, "argv", [*args[:3], *args[2:]])  # two seeds, equal ones
    assert prompt_alone.main() == 0
    both = capsys.readouterr().out
    assert f"| trained | {losses['trained']} (0.000) |" in both and both.splitlines()[-2:] == told.splitlines()[-2:]
    monkeypatch.setattr(sys, "argv", [*args[:4], "9"])
    assert prompt_alone.main() == 2 and "--shots asks for 9" in capsys.readouterr().err
