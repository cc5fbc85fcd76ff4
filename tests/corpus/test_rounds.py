"""`--rounds`: the run is trained again on what was kept, and a round that makes it worse does not stay."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from revinst.corpus import rounds as corpus_rounds
from revinst.data.example_table import load_examples
from tests.commands.test_run import run_command
from tests.corpus.test_corpus_command import OPTIONS, read
from tests.tiny import run_in_process

FEW = ("--limit", 24, "--samples", 1)


@pytest.fixture
def in_process(monkeypatch):
    """`fit` in this process, which has imported everything."""
    monkeypatch.setattr(corpus_rounds, "run_command", run_in_process)


@pytest.mark.wide
def test_rounds_of_a_run_on_two_devices(backward_run, mbox, tmp_path, monkeypatch):
    """Two rounds of two ranks each, while the corpus holds the lock of its folder."""
    run, out = Path(shutil.copytree(backward_run, tmp_path / "run")), tmp_path / "out"
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"] |= {"devices": 2, "accelerator": "cpu", "strategy": "ddp"}
    config["model"]["lr"] = 1e-4
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    losses = iter([3.0, 2.0, 1.0])
    monkeypatch.setattr(corpus_rounds, "measure_loss", lambda corpus, trained: next(losses))
    assert run_command("corpus", mbox, out, "--run", run, "--rounds", 2, *FEW, *OPTIONS) == 0
    assert json.loads((out / "card.json").read_text())["rounds"] == {"loss": [3.0, 2.0, 1.0], "kept": 2}
    for number in ("1", "2"):
        manifest = json.loads((out / "rounds" / number / "run" / "manifest.json").read_text())
        assert manifest["completed"] and manifest["world_size"] == 2 and manifest["steps"] == 2
    assert "LOCAL_RANK" not in os.environ, "no trace of a job is left to what comes after"


@pytest.mark.wide
@pytest.mark.usefixtures("in_process")
def test_a_better_round_stays(backward_run, mbox, tmp_path, monkeypatch):
    """Losses are given here, so that both ways can be seen; training and writing are real."""
    losses = iter([3.0, 2.0, 2.5])
    monkeypatch.setattr(corpus_rounds, "measure_loss", lambda corpus, trained: next(losses))
    out = tmp_path / "out"
    assert run_command("corpus", mbox, out, "--run", backward_run, "--rounds", 3, *FEW, *OPTIONS) == 0
    card = json.loads((out / "card.json").read_text())
    assert card["rounds"] == {"loss": [3.0, 2.0, 2.5], "kept": 1} and card["run"]["round"] == 1
    facts = read(out / "provenance.jsonl")
    assert {row["round"] for row in facts} == {1} and len(facts) == card["counts"]["kept"] > 10
    first = [row["instruction"] for row in read(out / "rounds" / "1" / "rows.jsonl")]
    assert [row["instruction"] for row in read(out / "dataset.jsonl")] != first
    split = json.loads((out / "rounds" / "1" / "split.json").read_text())
    before = json.loads((backward_run / "split.json").read_text())
    assert split["val"] == before["val"] and split["heldout"] == before["heldout"]
    assert len(split["train"]) == len(before["train"]) + len(first)
    heldout = {row["response"] for row, fact in zip(read(out / "dataset.jsonl"), facts, strict=True)
               if fact["part"] == "heldout"}  # fmt: skip
    trained = {row.response for row in load_examples(str(out / "rounds" / "1" / "rows.jsonl"))[0]}
    assert heldout and not heldout & trained, "held-out own texts are never trained on"


@pytest.mark.wide
@pytest.mark.usefixtures("in_process")
def test_the_loss_is_the_one_of_the_runs_validation_rows(backward_run, mbox, tmp_path, capsys):
    """Real losses, two rounds at most; the data set's round is the best one."""
    out = tmp_path / "out"
    assert run_command("corpus", mbox, out, "--run", backward_run, "--rounds", 1, *FEW, *OPTIONS) == 0
    found = json.loads((out / "card.json").read_text())["rounds"]
    assert len(found["loss"]) == 2 and found["kept"] == int(found["loss"][1] < found["loss"][0])
    assert all(5 < loss < 15 for loss in found["loss"]) and found["loss"][0] != found["loss"][1]
    import csv

    with (backward_run / "metrics.csv").open(newline="") as file:
        logged = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    assert found["loss"][0] == pytest.approx(logged[-1], rel=0.01)


def test_an_adapter_folder_has_no_rounds(backward_run, mbox, tmp_path, capsys):
    args = (mbox, tmp_path / "out", "--run", backward_run / "adapter", "--rounds", 1)
    assert run_command("corpus", *args, *OPTIONS) == 2
    assert "no run folder" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_round_on_other_rows_is_another_round(tmp_path):
    """Other filters keep other rows; a run that was trained on the first ones must not stand for them."""
    first, second = '{"instruction": "a"}\n', '{"instruction": "b"}\n'
    folder = corpus_rounds.choose_work(tmp_path / "1", first)
    assert folder == tmp_path / "1"
    folder.mkdir()
    (folder / "rows.jsonl").write_text(first)
    other = corpus_rounds.choose_work(tmp_path / "1", second)
    assert corpus_rounds.choose_work(tmp_path / "1", first) == folder != other and other.parent == tmp_path
