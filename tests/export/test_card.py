"""The card's scores lead with the ROUGE that reads all rows, and say why."""

import json
from types import SimpleNamespace

import pytest

from revinst.evaluation.head import HEAD_METRICS
from revinst.export import card


@pytest.mark.parametrize("unread", [0, 3])
def test_scores_lead_with_the_rouge_that_reads_all_rows(unread, tmp_path, monkeypatch):
    means = {name: {"mean": 0.25, "ci95": [0.2, 0.3], "n": 10} for name in HEAD_METRICS}
    means["rougeL"] |= {"mean": None if unread == 10 else 0.5, "n": 10 - unread}
    scores = {"n": 10, "metrics": means, "baselines": {"what_is": dict.fromkeys(HEAD_METRICS, 0.125)}}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    monkeypatch.setattr(card, "find_evaluations", lambda run: [SimpleNamespace(label="", folder=tmp_path)])
    text = card.describe_scores(SimpleNamespace(run="a run"))
    assert ("in 3 of 10 rows" in text) == bool(unread)
    assert ("| system | R1 unicode | R2 unicode | RL unicode |" in text) == bool(unread)
    assert (
        "| **this adapter** | 0.250 [0.200, 0.300] | 0.250 [0.200, 0.300] | 0.500 [0.200, 0.300] |" in text
    ) != bool(unread)
    assert "| what is | 0.125 | 0.125 | 0.125 |" in text
