"""Runs of older and newer versions stay usable: a key that is not there means what was done before it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from revinst.config import keys as config_keys
from revinst.config.keys import flatten, leave_out
from revinst.config.parser import dump_config, read_config
from revinst.config.stored import default_config, read_run_config
from revinst.corpus.rounds import training_lines, write_config
from revinst.corpus.settings import Reading, Writing, keep_settings
from revinst.errors import UserError
from revinst.export.card import describe_scores
from revinst.inference.picks import ONE
from revinst.inference.predictions import PredictionFile
from revinst.inference.trained import open_trained
from revinst.runs.checkpoints import TO_GO_ON, AtomicCheckpointIO, read_checkpoint
from revinst.training.resume import config_difference
from tests.commands.test_run import fit
from tests.tiny import run_in_process

GROUPS = ("data", "model", "model.lora", "checkpoint", "samples", "val_generation", "launch", "trainer")
# One of each group, with its default in the run below; a version without them wrote the config.
GONE = ["data.cut", "data.on_bad_row", "model.kernels", "model.betas", "model.lora.target_modules", "resume_force"]
GONE += [
    "checkpoint.keep_best",
    "samples.count",
    "val_generation.rows",
    "trainer.barebones",
    "trainer.enable_autolog_hparams",
]


@pytest.fixture(scope="module")
def runs(tiny_llama, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert fit(folder, "one", tiny_llama, **STEPS) == 0
    return folder


STEPS = {"trainer.max_steps": 2, "samples.every_steps": 0}


@pytest.fixture
def copy(runs, tmp_path) -> Path:
    return Path(shutil.copytree(runs / "one", tmp_path / "one"))


def rewrite_config(run: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """As another version would have written it, in the folder and in the checkpoint."""
    text = yaml.safe_dump(change(yaml.safe_load((run / "config.yaml").read_text())), sort_keys=False)
    (run / "config.yaml").write_text(text)
    rewrite_checkpoint(run, lambda content: content["run"].update(config=text))


def rewrite_checkpoint(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = run / "checkpoints" / "step-000002.ckpt"
    content = torch.load(path, weights_only=True)
    change(content)
    AtomicCheckpointIO().save_checkpoint(content, path)


def add_keys(content: dict[str, Any]) -> dict[str, Any]:
    content = json.loads(json.dumps(content))
    for group in GROUPS:
        place = content
        for name in group.split("."):
            place = place[name]
        place["of_tomorrow"] = 0.5
    return content | {"night": {"shift": 1}}


# ---- configs ---------------------------------------------------------------------------------------------------------


def test_every_key_may_be_missing(tmp_path):
    """In a stored config it means its default, for whatever reads it and for a run that goes on."""
    whole, path = default_config(), tmp_path / "config.yaml"
    keys = list(flatten(whole))
    assert len(keys) > 80 and {key.rpartition(".")[0] for key in keys} == {"", *GROUPS}
    new = yaml.safe_dump(whole)
    for gone in (keys[::2], keys[1::2], GROUPS, keys):
        old = yaml.safe_dump(leave_out(whole, gone))
        assert len(old) < 0.6 * len(new) and config_difference(old, new) == []
    path.write_text(yaml.safe_dump(leave_out(whole, [key for key in keys if not key.startswith("run")])))
    assert flatten(yaml.safe_load(dump_config(read_run_config(path)))) == flatten(whole)


def test_a_key_that_is_missing_is_still_compared():
    whole = default_config()
    old = yaml.safe_dump(leave_out(whole, ["model.lr", "data"]))
    new = yaml.safe_dump(whole | {"model": whole["model"] | {"lr": 0.5}, "data": whole["data"] | {"seq_len": 7}})
    assert config_difference(old, new) == ["data.seq_len: 2048 -> 7", "model.lr: 0.0002 -> 0.5"]


def test_a_key_whose_default_is_not_what_was_done_before(tmp_path, monkeypatch):
    """The table has the last word over the default, in a run's config alone, and a key that is there over the table."""
    monkeypatch.setattr(config_keys, "AS_BEFORE", {"model.kernels": "plain", "model.lora.dropout": 0.25})
    (tmp_path / "manifest.json").write_text("{}")
    stored, written = tmp_path / "config.yaml", tmp_path / "elsewhere" / "config.yaml"
    written.parent.mkdir()
    for path in (stored, written):
        path.write_text("model: {lr: 0.5}\n")
    for config in (read_run_config(stored), read_config(["--config", str(stored)])):
        assert (config.model.kernels, config.model.lora.dropout, config.model.lr) == ("plain", 0.25, 0.5)
    new = read_config(["--config", str(written)])
    assert (new.model.kernels, new.model.lora.dropout) == ("auto", 0.1)
    difference = ["model.kernels: plain -> auto", "model.lora.dropout: 0.25 -> 0.1"]
    assert config_difference(stored.read_text(), dump_config(new)) == difference
    stored.write_text("model: {lr: 0.5, kernels: fused}\n")
    assert read_run_config(stored).model.kernels == "fused"
    assert config_difference(stored.read_text(), dump_config(new))[0] == "model.kernels: fused -> auto"


def test_keys_of_a_newer_version(tmp_path, capsys):
    """Named in one line and left aside; a run can't go on with them unless they change no step."""
    path, old = tmp_path / "config.yaml", add_keys(default_config())
    path.write_text(yaml.safe_dump(old))
    assert read_run_config(path).samples.count == 3
    (line,) = capsys.readouterr().err.splitlines()
    unknown = [*(f"{group}.of_tomorrow" for group in GROUPS), "night"]
    assert line.startswith(f"{path}: ") and all(key in line for key in unknown)
    difference = config_difference(yaml.safe_dump(old), yaml.safe_dump(default_config()))
    names = ["data.of_tomorrow", "model.lora.of_tomorrow", "model.of_tomorrow", "night.shift", "trainer.of_tomorrow"]
    assert difference == [f"{name}: {0.5 if 'of' in name else 1} -> no such key in this version" for name in names]
    assert run_in_process("fit", "--config", path) == 2
    assert f"{path}: " in (said := capsys.readouterr().err) and "no such key" in said and said.count("\n") == 1


@pytest.mark.parametrize("text", ["- 1\n", "data: [", "", "3\n"])
def test_a_stored_config_that_is_none(text):
    with pytest.raises(UserError, match="config is"):
        config_difference(text, "{}")


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_every_command_takes_a_run_of_another_version(copy, tmp_path, capsys):
    rewrite_config(copy, lambda content: add_keys(leave_out(content, GONE)))
    manifest = json.loads((copy / "manifest.json").read_text())
    older = {key: manifest[key] for key in ("completed", "steps", "seed", "data", "base")} | {"of_tomorrow": {"a": 1}}
    (copy / "manifest.json").write_text(json.dumps(older))
    split = json.loads((copy / "split.json").read_text())
    del split["groups"]
    (copy / "split.json").write_text(json.dumps(split | {"of_tomorrow": []}))
    (tmp_path / "texts.jsonl").write_text('{"response": "Rain fell on the hills all day."}\n')
    commands = [
        ("evaluate", copy, "--limit", 2, "--max_new_tokens", 2, "--name", "two"),
        ("generate", copy, tmp_path / "texts.jsonl", "--output", tmp_path / "made.jsonl", "--max_new_tokens", 2),
        ("merge", copy, tmp_path / "merged", "--drift_rows", 0),
        ("publish", copy, "--push_to_hub", "me/x", "--dry_run"),
        ("plan", copy / "config.yaml", "--json", "--data.seq_len", 200),
        ("inspect", copy / "config.yaml", "--json", "--data.seq_len", 200),
    ]
    for command in commands:
        assert run_in_process(*command) == 0, (command, capsys.readouterr().err)
        said = capsys.readouterr().err
        assert said.count("no such key") == 1 and "model.lora.of_tomorrow" in said and "night" in said, command
    assert len((copy / "evaluation" / "two" / "predictions.jsonl").read_text().splitlines()) == 2


def test_a_run_of_an_older_version_goes_on(copy, tiny_llama, capsys):
    """With all that came later missing: in its config, its checkpoint, its manifest."""
    rewrite_config(copy, lambda content: leave_out(content, GONE))

    def as_before(content: dict[str, Any]) -> None:
        del content["run"]["world_size"], content["run"]["place"]["val_due"]
        content["run"]["place"]["of_tomorrow"] = content["run"]["of_tomorrow"] = content["of_tomorrow"] = 1
        content["revinst"] = {"step": content["revinst"]["step"], "of_tomorrow": 1}
        content["InstructionDataModule"]["of_tomorrow"] = 1
        for state in content["run"]["rng"]:
            del state["cuda"]

    rewrite_checkpoint(copy, as_before)
    (copy / "manifest.json").write_text('{"completed": true, "steps": 2}')
    assert fit(copy.parent, "one", tiny_llama, **STEPS) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert fit(copy.parent, "one", tiny_llama, **STEPS | {"trainer.max_steps": 3}) == 0, capsys.readouterr().err
    assert json.loads((copy / "manifest.json").read_text())["steps"] == 3


def test_a_run_of_a_newer_version_does_not_go_on_without_a_word(copy, tiny_llama, capsys):
    rewrite_config(copy, add_keys)
    longer = STEPS | {"trainer.max_steps": 3}
    assert fit(copy.parent, "one", tiny_llama, **longer) == 2
    said = capsys.readouterr().err
    assert "model.of_tomorrow: 0.5 -> no such key in this version" in said and "--resume_force" in said
    assert "checkpoint.of_tomorrow" not in said
    assert fit(copy.parent, "one", tiny_llama, **longer, resume_force=True) == 0


def test_a_checkpoint_that_lacks_what_it_needs(copy, tiny_llama, capsys):
    path = copy / "checkpoints" / "step-000002.ckpt"
    whole = torch.load(path, weights_only=True)
    assert len(TO_GO_ON) > 8
    for name in TO_GO_ON:
        *groups, last = name.split(".")
        content = json.loads(json.dumps(whole, default=str))
        del reduce(dict.__getitem__, groups, content)[last]
        AtomicCheckpointIO().save_checkpoint(content, path)
        with pytest.raises(UserError, match=f"{path}: it has no {name}, "):
            read_checkpoint(path, TO_GO_ON)
    assert fit(copy.parent, "one", tiny_llama, **STEPS | {"trainer.max_steps": 3}) == 2
    said = capsys.readouterr().err.removeprefix("Seed set to 42\n")
    assert f"{path}: it has no {TO_GO_ON[-1]}" in said and said.count("\n") == 1


# ---- what other stages leave -----------------------------------------------------------------------------------------


def test_scores_and_predictions_of_an_older_version(copy, tmp_path, capsys):
    """The card leaves out what is not known; rows are compared by what they have."""
    (copy / "evaluation").mkdir()
    trained = open_trained(str(copy))

    def card_of(scores: dict[str, Any]) -> str:
        (copy / "evaluation" / "scores.json").write_text(json.dumps(scores))
        (copy / "evaluation" / "predictions.jsonl").touch()
        return describe_scores(trained)

    scores = {"n": 2, "metrics": {"rougeL": {"mean": 0.25, "ci95": [0.125, 0.5]}}, "of_tomorrow": 1}
    assert "| **this adapter** | - | - | 0.250 [0.125, 0.500] |" in card_of(scores)
    scores |= {"baselines": {"lead_words": {"rouge1": 0.5, "rougeL": None}}}
    assert "| lead words | 0.500 | - | - |" in card_of(scores)
    assert card_of({"n": 2, "tuned": {}, "base": {}}) == "", "of a run that writes responses"
    rows = [{"id": str(n), "reference": "Why?", "rougeL": n / 4, "of_tomorrow": [n]} for n in range(4)]
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    capsys.readouterr()
    assert run_in_process("compare", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--json") == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["ties"] == 4


def test_settings_of_another_version_are_named(tmp_path):
    """An output goes on with equal settings alone; what one side has not is a difference, or what was done before."""
    file = PredictionFile(tmp_path / "made.jsonl", {"base": "x", "generation": {}})
    file.open()
    file.path.write_text("")
    for other, named in (({"base": "x"}, "generation"), ({"base": "x", "generation": {}, "new": 1}, "new")):
        (tmp_path / "made.settings.json").write_text(json.dumps(other))
        with pytest.raises(UserError, match=f"made with another {named};"):
            file.open()
    settings = {"input": "x", "redact": False, "limit": None, "shard_rows": 256, "curate": False} | asdict(ONE)
    assert Reading(tmp_path).redact is False and Writing(256).describe()["samples"] == 1
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "texts.jsonl").write_text("")
    path = tmp_path / "out" / "settings.json"
    path.write_text(json.dumps({"input": "x", "shard_rows": 256} | asdict(ONE)))
    keep_settings(tmp_path / "out", settings)
    with pytest.raises(UserError, match="made with another samples;"):
        keep_settings(tmp_path / "out", settings | {"samples": 2})
    path.write_text(json.dumps({"input": "x", "shard_rows": 256, "candidates": 4, "pick": "likelihood"}))
    with pytest.raises(UserError, match="made with another pick, utility, candidates;"):
        keep_settings(tmp_path / "out", settings)
    path.write_text(json.dumps(settings | {"of_tomorrow": 1}))
    with pytest.raises(UserError, match="made with another of_tomorrow;"):
        keep_settings(tmp_path / "out", settings)


def test_a_round_of_a_corpus_trains_like_a_run_of_another_version(copy, tmp_path):
    """Its config has this version's keys alone, so `fit` takes it."""
    rewrite_config(copy, lambda content: add_keys(leave_out(content, GONE)))
    folder, work = tmp_path / "own", tmp_path / "own" / "rounds" / "1"
    work.mkdir(parents=True)
    (folder / "dataset.jsonl").write_text('{"instruction": "Write of rain.", "response": "Rain fell all day."}\n')
    (folder / "provenance.jsonl").write_text('{"part": "train"}\n')
    corpus: Any = SimpleNamespace(folder=folder, trained=open_trained(str(copy)))
    write_config(corpus, work, "".join(training_lines(folder, corpus.trained)))
    made = read_config(["--config", str(work / "config.yaml")])
    assert made.run_name == "run" and made.data.source == ["quickstart", str(work / "rows.jsonl")]
    assert flatten(yaml.safe_load((work / "config.yaml").read_text())).keys() == flatten(default_config()).keys()
