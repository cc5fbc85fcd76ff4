"""What a report says at its top."""

from types import SimpleNamespace

import pytest

from revinst.commands.score import build_options
from revinst.evaluation.facts import describe_command, describe_decoding, describe_rows, describe_training
from revinst.evaluation.settings import EvaluationSettings
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.picks import ONE, PickSettings
from revinst.runs.files import write_json
from revinst.runs.folder import Run

DATA = {"source": ["a.jsonl", {"source": "b.csv", "weight": 2}], "train": 5445, "val": 299, "heldout": 239}
MANIFEST = {"completed": True, "started": "2026-11-28T18:15:09+00:00", "steps": 24, "epochs": 0.07891, "seed": 42}


@pytest.mark.parametrize(
    ("manifest", "training"),
    [
        (MANIFEST, "24 steps, 0.0789 epochs, seed 42, started 2026-11-28"),
        (MANIFEST | {"completed": False, "steps": None, "epochs": None}, "not finished, seed 42, started 2026-11-28"),
        (MANIFEST | {"adapter_steps": [24]}, "24 steps, 0.0789 epochs, seed 42, started 2026-11-28"),
        (
            MANIFEST | {"adapter_steps": [20]},
            "24 steps, 0.0789 epochs, seed 42, started 2026-11-28, adapter of step 20",
        ),
        (
            {"completed": True, "steps": 24, "adapter_steps": [8, 16, 24]},
            "24 steps, adapter the mean of steps 8, 16, 24",
        ),
        ({"completed": True}, ""),
    ],
)
def test_training_is_told_as_far_as_the_manifest_knows(tmp_path, manifest, training):
    write_json(tmp_path / "manifest.json", manifest | ({"data": DATA} if "seed" in manifest else {}))
    facts = describe_training(SimpleNamespace(run=Run(tmp_path)))
    assert facts["training"] == training
    rows = "a.jsonl, b.csv (weight 2); 5,445 rows for training; 299 rows for validation; 239 rows held out"
    assert facts.get("data") == (rows if "seed" in manifest else None)
    assert describe_training(SimpleNamespace(run=None)) == {}, "an adapter folder"


def test_rows_and_decoding_in_words():
    assert describe_rows(EvaluationSettings(part="val", limit=1000)) == "the first 1,000 of the run's validation rows"
    assert describe_rows(EvaluationSettings(limit=1)) == "the first of the run's held-out rows"
    assert describe_rows(EvaluationSettings(source="mine.jsonl")) == "mine.jsonl"
    greedy = GenerationSettings(max_new_tokens=60, precision="fp32")
    assert describe_decoding(greedy, ONE) == "greedy; at most 60 tokens, in fp32"
    sampled = GenerationSettings(temperature=0.7, seed=3, precision="bf16")
    said = describe_decoding(sampled, PickSettings(8, "consensus"))
    assert said == "8 samples a row at temperature 0.7, seed 3, their consensus is taken; at most 100 tokens, in bf16"


def test_the_command_is_as_it_was_typed():
    options = build_options().parse_args(["my file.jsonl", "--output", "x"])
    assert describe_command(options.command)["command"] == "revinst score 'my file.jsonl' --output x"
    assert list(describe_command("")) == ["versions"], "from Python"
