"""The comparison of instructions, on a random model and few rows: the same rows in every arm, tested in pairs."""

import json

import numpy as np
import pytest

from revinst.data.words import normalise
from scripts import which_instructions_help
from scripts.which_instructions_help import ARMS, describe, main
from tests.commands.test_run import OPTIONS
from tests.tiny import run_in_process

FIT = {
    name: value
    for name, value in OPTIONS.items()
    if name.split(".")[1] not in ("source", "heldout_fraction", "val_fraction")
}


@pytest.mark.wide
def test_three_arms_on_the_same_rows(backward_run, tiny_llama, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(which_instructions_help, "run_command", run_in_process)  # this one has imported everything
    rows = [json.loads(line) for line in open("revinst/data/quickstart.jsonl", encoding="utf-8")]  # noqa: SIM115
    trees = ["ash", "birch", "cedar", "elm", "fig", "gum", "hazel", "ivy", "juniper", "larch", "maple", "oak", "pine"]
    fresh = [
        {"instruction": f"Tell me about number {n}.", "response": f"The {n}th row speaks of {tree} and nothing more."}
        for n, tree in enumerate(trees)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *fresh]))
    values = FIT | {"model.base": tiny_llama, "trainer.max_steps": 3}
    fit = [part for key, value in values.items() for part in (f"--{key}", str(value))]
    args = ["--data", str(data), "--run", str(backward_run), "--work", str(tmp_path / "w"), "--heldout", "0.3"]
    assert main([*args, "--", *fit]) == 0
    result = json.loads((tmp_path / "w" / "result.json").read_text())
    assert set(result["systems"]) == {"base", *ARMS} and len(result["pairs"]) == 6
    split = json.loads((tmp_path / "w" / "split.json").read_text())
    arms = {arm: [json.loads(line) for line in (tmp_path / "w" / f"{arm}.jsonl").open()] for arm in ARMS}
    for arm in ARMS:
        assert [row["id"] for row in arms[arm]] == [row["id"] for row in arms["true"]]
        assert [row["response"] for row in arms[arm]] == [row["response"] for row in arms["true"]]
        assert json.loads((tmp_path / "w" / arm / "split.json").read_text())["hash"] == split["hash"]
        assert 5 < result["systems"][arm]["perplexity"] < 1e6
    seen = json.loads((backward_run / "split.json").read_text())
    assert not {row["id"] for row in arms["true"]} & {*seen["train"], *seen["val"]}
    trained = {normalise(row["response"]) for row in rows}
    assert sum(normalise(row["response"]) not in trained for row in arms["true"]) == len(fresh)
    assert arms["lead_words"][-1]["instruction"] == " ".join(arms["true"][-1]["response"].split()[:7])
    assert len({json.dumps(values) for values in result["systems"].values()}) == 4
    assert main([*args[:4], "--work", str(tmp_path / "v"), "--rows", "3"]) == 2
    assert "only 3 rows" in capsys.readouterr().err


def test_planted_difference_is_found():
    """A model that is better by 0.1 nats a token on every row, and one that is equal but for noise."""
    generator = np.random.default_rng(0)
    base = generator.normal(-3, 0.5, 200)
    values = {
        "base": base,
        "same": base + generator.normal(0, 0.3, 200),
        "better": base + 0.1 + generator.normal(0, 0.3, 200),
    }
    found = describe(values, np.full(200, 10), [str(n) for n in range(200)], 0)
    p = {(pair["a"], pair["b"]): pair["p_holm"] for pair in found["pairs"]}
    assert p["base", "better"] < 0.01 and p["base", "same"] > 0.05
    assert found["systems"]["base"]["perplexity"] == pytest.approx(np.exp(-base.mean()))
