"""What a run may go on from, and what it refuses without touching anything."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from revinst import cli
from revinst.runs.checkpoints import checkpoint_files, prune, why_unusable
from revinst.runs.folder import LOCK_FILES, Run
from revinst.runs.metrics import read_rows
from tests.survive.faults import arguments, assert_equal, count_lost, state_of


@pytest.fixture
def fit(folder, tiny_llama, capsys):
    """fit(name, **options) -> (exit code, last line of stderr, stdout)"""

    def fit(name: str, **options: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments(folder, name, tiny_llama, **options))
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(ended.value.code or 0), (captured.err.strip().splitlines() or [""])[-1], captured.out

    return fit


def files_of(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name not in LOCK_FILES
    }


def times_of(run: Path) -> dict[Path, int]:
    files = (path for path in run.rglob("*") if path.is_file() and path.name not in LOCK_FILES)
    return {path: path.stat().st_mtime_ns for path in files}


def is_refused(fit, run: Path, *says: str, **options: object) -> None:
    before = times_of(run)
    code, line, _ = fit(run.name, **options)
    assert code == 2 and all(part in line for part in says), line
    assert before == times_of(run), "nothing is touched"


@pytest.mark.parametrize("how", ["a bit", pytest.param("torn", marks=pytest.mark.wide)])
def test_corrupt_newest_checkpoint_is_skipped(fit, stopped, copy_of, whole, fault, how):
    run = copy_of("stopped", f"corrupt-{how[0]}")
    path = run / "checkpoints" / "step-000007.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    reason = "its checksum is wrong"
    if how == "torn":
        content, reason = content[:-1000], f"{len(content) - 1000} bytes instead of {len(content)}"
    path.write_bytes(content)
    with fault("corrupt or torn checkpoint") as counts:
        counts["injected"] += 1
        code, _, out = fit(run.name)
        assert code == 0 and f"step-000007.ckpt: skipped ({reason})" in out
        state = state_of(run)
        counts["bytes_lost"] += count_lost(state, whole[0])
        assert_equal(state, whole[0])
        assert (run / "checkpoints" / "aside" / "step-000007.ckpt").read_bytes() == content


def test_no_checkpoint_is_whole(fit, stopped, copy_of, fault):
    run = copy_of("stopped", "all-corrupt")
    (run / "checkpoints" / "step-000007.json").unlink()
    torn = run / "checkpoints" / "step-000006.ckpt"
    torn.write_bytes(torn.read_bytes()[:1000])
    with fault("corrupt or torn checkpoint") as counts:
        counts["injected"] += 2
        is_refused(fit, run, "none of its 2 checkpoints is whole", "another --run_name")


def test_pruning_counts_whole_checkpoints_only(tmp_path):
    for step in range(1, 7):
        (tmp_path / f"step-00000{step}.ckpt").write_bytes(b"x")
        mark = {"bytes": 1, "sha256": "", "val_loss": {2: 1.5, 3: 2.5}.get(step)}
        (tmp_path / f"step-00000{step}.json").write_text(json.dumps(mark))
    (tmp_path / "step-000006.json").unlink()
    (tmp_path / "step-000005.json").write_text("{torn")
    prune(tmp_path, keep_last=2, keep_best=1)
    assert [path.name for path in checkpoint_files(tmp_path)] == [f"step-00000{step}.ckpt" for step in (2, 3, 4, 5, 6)]


def test_an_older_checkpoint_leaves_the_later_ones_aside(fit, stopped, copy_of, whole):
    run = copy_of("stopped", "older")
    path = run / "checkpoints" / "step-000006.ckpt"
    is_refused(fit, run, "model.lr: 0.01 -> 0.5", "--resume_force", **{"resume": path, "model.lr": 0.5})
    code, _, _ = fit("older", resume=path)
    assert code == 0
    assert_equal(state_of(run), whole[0])
    assert [file.name for file in checkpoint_files(run / "checkpoints" / "aside")] == ["step-000007.ckpt"]


def test_what_is_no_checkpoint_is_refused_before_a_folder_is_made(fit, folder, stopped, fault):
    foreign = folder / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    (folder / "text.ckpt").write_text("hello")
    for path, says in (
        (foreign, "not a checkpoint of revinst"),
        (folder / "text.ckpt", "not a checkpoint that can be read"),
        (folder / "nothing.ckpt", "neither auto, never nor"),
    ):
        with fault("foreign checkpoint") as counts:
            counts["injected"] += 1
            code, line, _ = fit("from-nothing", resume=path)
            assert code == 2 and says in line and not (folder / "from-nothing").exists()


def test_changed_inputs_are_refused(fit, folder, tiny_llama, stopped, copy_of, fault):
    """Rows with ids of their own keep the split's hash; the documents' hash tells."""
    run = copy_of("stopped", "changed")
    rows = (folder / "rows.jsonl").read_text()
    try:
        (folder / "rows.jsonl").write_text(rows.replace(" the ", " a "))
        with fault("other config, data or base on resuming") as counts:
            counts["injected"] += 1
            is_refused(fit, run, "other inputs", "documents:", "--resume_force")
    finally:
        (folder / "rows.jsonl").write_text(rows)
    weights = tiny_llama / "model.safetensors"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-4] + b"abcd")
        with fault("other config, data or base on resuming") as counts:
            counts["injected"] += 1
            is_refused(fit, run, "other inputs", "base:")
    finally:
        weights.write_bytes(content)
    with fault("other config, data or base on resuming") as counts:
        counts["injected"] += 1
        is_refused(fit, run, "another config", "data.seq_len: 128 -> 120", **{"data.seq_len": 120})


def test_forced_on_another_split_the_old_one_is_kept(fit, folder, stopped, copy_of):
    run = copy_of("stopped", "forced")
    split = (run / "split.json").read_bytes()
    options = {"resume_force": "true", "seed_everything": 7, "trainer.max_steps": 8}
    assert fit("forced", **options)[0] == 0
    assert (run / "split-before-1.json").read_bytes() == split != (run / "split.json").read_bytes()


def test_finished_run(fit, folder, whole, copy_of):
    """Refuses another config, has nothing to do for a shorter length, goes on to a longer one."""
    run = copy_of("whole", "finished")
    is_refused(fit, run, "model.lr: 0.01 -> 0.5", **{"model.lr": 0.5})
    before = files_of(run)
    code, _, out = fit("finished", **{"trainer.max_epochs": 1})
    assert code == 0 and "nothing to do" in out and files_of(run) == before
    is_refused(fit, run, "--resume is never", resume="never")
    assert fit("finished", **{"trainer.max_steps": 18, "trainer.max_epochs": 3})[0] == 0
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["completed"] and manifest["steps"] == 18 and len(read_rows(run / "metrics.csv")) == 18


def test_steps_of_another_size(fit, stopped, copy_of):
    """Stopped after 7 steps of 4 rows, then steps of 8, as another number of ranks has them: every row twice, the rest
    of the learning rate's schedule, and the length in epochs is the length of the run, whatever its steps add up to.
    """
    run = copy_of("stopped", "other-size")
    options = {"resume_force": "true", "data.rows_per_step": 8, "model.lr_schedule": "linear"}
    assert fit("other-size", **options)[0] == 0
    rows = read_rows(run / "metrics.csv")
    positions = [float(row["data/position"]) for row in rows]
    num_rows = positions[-1] / 2
    assert 28 < num_rows <= 32 and positions[:7] == [4 * step for step in range(1, 8)]
    assert positions[7:] == [num_rows, *(min(num_rows + 8 * step, 2 * num_rows) for step in range(1, 5))]
    rates = [float(row["train/lr"]) / 0.01 for row in rows[7:]]  # steps 3 to 7 of 8, the first of which is warm-up
    assert rates == pytest.approx([left / 7 for left in (5, 4, 3, 2, 1)], rel=1e-5)
    assert "nothing to do" in fit("other-size", **options)[2]
    code, _, out = fit("other-size", **options | {"trainer.max_epochs": 3})
    assert code == 0 and "nothing to do" not in out and len(read_rows(run / "metrics.csv")) == 16


def test_a_falling_lr_that_is_taken_up_again_is_said(fit, folder):
    options = {"model.lr_schedule": "linear", "trainer.max_steps": 6, "checkpoint.every_steps": 3}
    assert fit("longer", **options)[0] == 0
    code, _, out = fit("longer", **options | {"trainer.max_steps": 9})
    rates = [float(row["train/lr"]) for row in read_rows(folder / "longer" / "metrics.csv")]
    assert code == 0 and rates[6:] == sorted(rates[6:], reverse=True) and rates[6] > 1.5 * rates[5]
    assert f"lr: goes on at {rates[6]:.2g}, where {rates[5]:.2g} was planned" in out
    assert fit("straight", **options | {"model.lr_schedule": "constant"})[0] == 0
    assert (
        "was planned" not in fit("straight", **options | {"model.lr_schedule": "constant", "trainer.max_steps": 9})[2]
    )


def test_finished_run_of_short_epochs(fit, folder):
    options = {"trainer.limit_train_batches": 2, "trainer.val_check_interval": 1.0}
    assert fit("short", **options)[0] == 0 and len(read_rows(folder / "short" / "metrics.csv")) == 4
    assert "nothing to do" in fit("short", **options)[2]


def test_finished_run_without_its_adapter_gets_it_again(fit, whole, copy_of):
    run = copy_of("whole", "no-adapter")
    shutil.rmtree(run / "adapter")
    assert fit("no-adapter")[0] == 0
    assert_equal(state_of(run), whole[0])


def test_val_loss_that_is_no_number_is_never_the_best(fit, folder, monkeypatch):
    from revinst.training.module import InstructionModule

    validate = InstructionModule.validation_step

    def spoilt(self, batch, batch_idx):
        validate(self, batch, batch_idx)
        if self.step == 3:
            self.val_means.sums["loss"].total *= math.nan

    monkeypatch.setattr(InstructionModule, "validation_step", spoilt)
    options = {"trainer.max_steps": 6, "checkpoint.every_steps": 1, "checkpoint.keep_last": 1}
    code, _, out = fit("nan", **options)
    assert code == 0 and "step 3: val/loss is nan" in out
    assert [path.name for path in checkpoint_files(folder / "nan" / "checkpoints")] == ["step-000006.ckpt"]
    assert why_unusable(folder / "nan" / "checkpoints" / "step-000006.ckpt") == ""


def test_two_at_once(fit, folder, stopped, fault, capsys):
    """The second is refused and told who is first; nobody waits for one that was killed."""
    with Run(stopped).lock():
        code, line, _ = fit("stopped")
    assert code == 2 and "in use by process" in line and "since" in line
    (stopped / ".owner").write_text("process 1 on elsewhere since 2020-01-01\n")
    with fault("lock of an owner that is gone") as counts:
        counts["injected"] += 1
        with Run(stopped).lock():
            assert f"process {os.getpid()} on " in (stopped / ".owner").read_text()
        assert "taken over from process 1 on elsewhere since 2020-01-01, which has ended" in capsys.readouterr().out
        assert not (stopped / ".owner").exists()


def test_rows_of_a_bad_step_are_in_the_metrics(fit, folder, monkeypatch, fault):
    from revinst.training.module import InstructionModule

    exact = InstructionModule.micro_batch_loss
    monkeypatch.setattr(
        InstructionModule,
        "micro_batch_loss",
        lambda self, batch: exact(self, batch) * (math.nan if self.training and self.step >= 2 else 1),
    )
    with fault("step that is not finite") as counts:
        code, line, _ = fit("bad", **{"trainer.val_check_interval": 1.0, "model.max_bad_steps": 2})
        rows = read_rows(folder / "bad" / "metrics.csv")
        counts["injected"] += sum(bool(row["bad_rows"]) for row in rows)
        assert code == 2 and "2 steps in a row were not finite" in line
        assert [len(row["bad_rows"].split()) for row in rows] == [0, 0, 4, 4]
        train = set(json.loads((folder / "bad" / "split.json").read_text())["train"])
        assert set(rows[3]["bad_rows"].split()) <= train and rows[1]["data/position"] > rows[0]["data/position"]


def test_config_of_a_run_gives_the_same_hashes(fit, folder, whole, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit", "--config", str(folder / "whole" / "config.yaml"), "--run_name", "again"])
    assert ended.value.code == 0
    got = state_of(folder / "again")
    assert_equal(got, whole[0])
    assert yaml.safe_load((folder / "again" / "config.yaml").read_text())["run_name"] == "again"
