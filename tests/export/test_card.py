"""The card's scores lead with the ROUGE that reads all rows, and say why."""

import json
from types import SimpleNamespace

import pytest

from revinst.config.settings import DataSettings, ModelSettings
from revinst.evaluation.head import HEAD_METRICS
from revinst.export import card
from revinst.runs.files import write_json
from revinst.runs.folder import Run


@pytest.mark.parametrize(("steps", "said"), [([6], None), ([4], "- adapter of step 4"),
                                             ([2, 4, 6], "- adapter the mean of steps 2, 4, 6")])  # fmt: skip
def test_it_is_said_which_steps_the_adapter_is_of(steps, said, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
    write_json(tmp_path / "manifest.json", {"steps": 6, "adapter_steps": steps, "seed": 42})
    named = {"base": "b", "quantization": "nf4", "template_name": "blog", "seq_len": 64}
    config = SimpleNamespace(model=ModelSettings(base="b"), data=DataSettings())
    run = SimpleNamespace(adapter=tmp_path, config=config, run=Run(tmp_path), **named)
    lines = card.describe_training(run, None).splitlines()
    assert lines[4].startswith("- 6 steps, lr ") and lines[5:] == ([said] if said else [])


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


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("asked for", "paged_adamw_32bit"),
        ("torch's AdamW: paged_adamw_32bit pages the memory of CUDA GPUs, and this is cpu", "torch's AdamW"),
    ],
)
def test_the_optimizer_is_the_one_that_ran(why, said, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
    run = SimpleNamespace(read_manifest=lambda: {"steps": 3, "reasons": {"optimizer": why}})
    config = SimpleNamespace(model=ModelSettings(base="b"), data=DataSettings())
    trained = SimpleNamespace(
        adapter=tmp_path, quantization="nf4", base="b", template_name="t", seq_len=8, config=config, run=run
    )
    line = next(line for line in card.describe_training(trained, None).splitlines() if "supervised" in line)
    assert f" constant, {said}, supervised" in line
