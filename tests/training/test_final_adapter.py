"""`checkpoint.final`: what the finished adapter is made of."""

import json
from itertools import count

import pytest
import torch
from safetensors.torch import load_file

from revinst.config.settings import CheckpointSettings
from revinst.errors import UserError
from revinst.runs.checkpoints import (
    checkpoint_files,
    choose_final,
    mark_of,
    prune,
    read_checkpoint,
    read_mark,
    step_of,
)
from tests.commands.test_run import fit

EVERY_STEP = {
    "checkpoint.every_steps": 1, "trainer.max_steps": 2, "trainer.val_check_interval": 1, "samples.every_steps": 0,
    "trainer.check_val_every_n_epoch": "null", "model.lr": 5.0,
}  # fmt: skip


@pytest.mark.parametrize(("final", "kept"), [("best", 1), pytest.param("mean", 2, marks=pytest.mark.wide)])
def test_the_adapter_is_of_these_checkpoints(tiny_llama, tmp_path, monkeypatch, final, kept):
    """val/loss is made to rise from step to step."""
    rising = count(1)
    monkeypatch.setattr(
        "revinst.training.module.Means.compute", lambda means: {"loss": torch.tensor(float(next(rising)))}
    )
    options = EVERY_STEP | {"checkpoint.final": final, "checkpoint.keep_last": kept}
    assert fit(tmp_path, "run", tiny_llama, **options) == 0
    run = tmp_path / "run"
    manifest = json.loads((run / "manifest.json").read_text())
    adapter = load_file(run / "adapter" / "adapter_model.safetensors")
    states = {step_of(path): read_checkpoint(path)["state_dict"] for path in checkpoint_files(run / "checkpoints")}
    losses = {step_of(path): read_mark(path)["val_loss"] for path in checkpoint_files(run / "checkpoints")}
    steps = [min(losses, key=lambda step: losses[step])] if final == "best" else [1, 2]
    assert manifest["adapter_steps"] == steps and steps[0] == 1
    assert manifest["val_loss"] == (losses[steps[0]] if final == "best" else None)
    assert adapter.keys() == states[2].keys()
    for name, tensor in adapter.items():
        torch.testing.assert_close(tensor, sum(states[step][name] for step in steps) / len(steps))
        assert not torch.equal(tensor, states[2][name])


def test_where_none_serves_a_line_says_so(tiny_llama, tmp_path, monkeypatch, capsys):
    """As after losses that are no numbers."""
    monkeypatch.setattr("revinst.training.run_folder.choose_final", lambda *args: [])
    assert fit(tmp_path, "run", tiny_llama, **EVERY_STEP | {"checkpoint.final": "best"}) == 0
    assert "adapter: of the last step; no checkpoint with a val/loss that is a number" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["adapter_steps"] == [2]


@pytest.mark.wide
def test_a_mean_is_of_those_that_were_due(tiny_llama, tmp_path):
    """The clock saves every step here; a run that it had not must end as the same."""
    options = {"checkpoint.every_steps": 3, "checkpoint.every_minutes": 1e-6, "trainer.max_steps": 6, "model.lr": 0.1}
    options |= {"checkpoint.final": "mean", "checkpoint.keep_last": 2, "data.val_fraction": 0, "samples.every_steps": 0}
    assert fit(tmp_path, "run", tiny_llama, **options) == 0
    run = tmp_path / "run"
    assert json.loads((run / "manifest.json").read_text())["adapter_steps"] == [3, 6]
    assert [step_of(path) for path in checkpoint_files(run / "checkpoints")] == [3, 5, 6]
    adapter = load_file(run / "adapter" / "adapter_model.safetensors")
    three, _, six = (read_checkpoint(path)["state_dict"] for path in checkpoint_files(run / "checkpoints"))
    for name, tensor in adapter.items():
        torch.testing.assert_close(tensor, (three[name] + six[name]) / 2)


def test_a_finished_run_is_not_taken_for_one_with_another_adapter(tiny_llama, tmp_path, capsys):
    assert fit(tmp_path, "run", tiny_llama, **EVERY_STEP) == 0
    for options, said in (
        ({"checkpoint.final": "best"}, "checkpoint.final: last -> best"),
        ({"checkpoint.final": "mean"}, "checkpoint.final: last -> mean"),
    ):
        assert fit(tmp_path, "run", tiny_llama, **EVERY_STEP | options) == 2
        told = capsys.readouterr().err
        assert said in told and "another --run_name" in told
    assert fit(tmp_path, "run", tiny_llama, **EVERY_STEP | {"checkpoint.keep_last": 4}) == 0  # it is of no account
    assert "this run has finished" in capsys.readouterr().out


def test_which_are_chosen(tmp_path):
    for step, loss in enumerate([2.0, 1.5, None, 1.75, "not finite"], start=1):
        path = tmp_path / f"step-{step:06d}"
        path.with_suffix(".ckpt").write_bytes(b"x")
        mark = {"bytes": 1, "sha256": "", "val_loss": loss, "val/rougeL": step / 10}
        path.with_suffix(".json").write_text(json.dumps(mark))

    def steps(*args):
        return [step_of(path) for path in choose_final(tmp_path, *args)]

    assert steps("last", 3, "val/loss") == [] and steps("mean", 3, "val/loss") == [3, 4, 5]
    assert steps("best", 1, "val/loss") == [2] and steps("best", 1, "val/rougeL") == [5]


def test_what_the_clock_saved_is_in_no_mean_and_what_is_due_is_kept_for_it(tmp_path):
    for step, mark in enumerate(
        [{}, {"is_due": True}, {"is_due": False}, {"is_due": True}, {"is_due": False}], start=1
    ):
        path = tmp_path / f"step-{step:06d}.ckpt"
        path.write_bytes(b"x")
        mark_of(path).write_text(
            json.dumps({"bytes": 1, "sha256": "", "val_loss": None} | mark)
        )  # the first: of before

    def steps(paths):
        return [step_of(path) for path in paths]

    assert steps(choose_final(tmp_path, "mean", 2, "val/loss")) == [2, 4]
    assert steps(choose_final(tmp_path, "mean", 4, "val/loss")) == [1, 2, 4]
    prune(tmp_path, 2, 0, final="mean")
    assert steps(checkpoint_files(tmp_path)) == [2, 4, 5]
    prune(tmp_path, 2, 0)
    assert steps(checkpoint_files(tmp_path)) == [4, 5]


TOO_FEW = [
    ({"final": "best", "keep_best": 0}, "keep_best: 1"),
    ({"final": "mean", "keep_last": 1}, "keep_last: 2"),
    ({"final": "mean", "every_steps": None}, "every_steps, or every_epochs"),
]


@pytest.mark.parametrize(("options", "needs"), TOO_FEW)
def test_too_few_are_kept(options, needs):
    with pytest.raises(UserError, match=needs):
        CheckpointSettings(**options)


def test_nothing_to_choose_by(tiny_llama, tmp_path, capsys):
    assert fit(tmp_path, "run", tiny_llama, **{"checkpoint.final": "best", "data.val_fraction": 0}) == 2
    assert "no validation rows to choose by" in capsys.readouterr().err and not (tmp_path / "run").exists()
