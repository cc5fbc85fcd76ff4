"""The whole way on the real small model: 60 made mails to a personal model that is better than its base."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.wide
@pytest.mark.timeout(3000)
def test_made_mails_to_a_personal_model(base, tmp_path):
    command = [sys.executable, "scripts/own_texts.py", "--work", str(tmp_path), "--steps", "16", "--epochs", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    card = json.loads((tmp_path / "own" / "card.json").read_text())["counts"]
    assert card["read"] == 60 and card["texts"] == 55 and card["kept"] >= 20
    scores = json.loads((tmp_path / "personal" / "evaluation" / "max-60" / "scores.json").read_text())
    assert scores["n"] == card["heldout"] and scores["tuned"]["loss"] < scores["base"]["loss"] - 0.1
