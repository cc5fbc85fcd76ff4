"""What a user gets wrong ends in exit 2 and one line that says what, where and what to do; never a traceback."""

import json
import resource

import pytest
import torch
import yaml

from revinst import cli
from revinst.model.hardware import check_precision
from revinst.runs.checkpoints import why_unusable

GOOD = {"instruction": "What is a comet?", "context": "", "response": "A ball of ice and dust.", "category": "qa"}


def fails(capsys, *args: object) -> str:
    """Runs a command that must exit 2; returns its one line."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(arg) for arg in args])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "\n".join(lines)
    return lines[-1]


def config(tmp_path, **changes: object) -> str:
    """A valid config with changes, as `data__source=...`."""
    content: dict = {"data": {"source": "quickstart"}, "model": {"base": "models/smollm2-135m"}}
    for key, value in changes.items():
        group, _, name = key.partition("__")
        if name:
            content.setdefault(group, {})[name] = value
        else:
            content[group] = value
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def write_rows(tmp_path, *rows: object) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def stop_on(monitor: str) -> dict[str, object]:
    return {"class_path": "EarlyStopping", "init_args": {"monitor": monitor}}


def test_unknown_command(capsys):
    assert "evaluate" in fails(capsys, "evalute")


def test_no_config(capsys):
    assert "`revinst fit quickstart`" in fails(capsys, "fit")


def test_missing_config(capsys):
    assert "nowhere.yaml" in fails(capsys, "fit", "--config", "nowhere.yaml")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data__sorce": "x"}, "sorce"),
        ({"model__lr": "fast"}, "lr"),
        ({"data__base": "x"}, "model.base"),
        ({"data__packing": "tight"}, "best_fit"),
        ({"data__seq_len": 0}, "seq_len"),
        ({"model__lr_schedule": "square"}, "cosine"),
        ({"model__quantization": "int3"}, "nf4"),
        ({"model__lora": {"r": 0}}, "r 0"),
        ({"model__lora": {"alpha": 0}}, "alpha 0"),
        ({"model__lora": {"target_modules": ["q_proj", "lm_head"]}}, "lm_head is not part of the decoder"),
        ({"model__lora": {"target_modules": "q_prj"}}, "[q_proj, v_proj]"),
        ({"model__lora": {"modules_to_save": ["lm_head"]}}, "modules_to_save"),
        ({"model__base": "models/nothing-here/at-all"}, "no such folder"),
        ({"trainer__accumulate_grad_batches": 4}, "data.rows_per_step"),
        ({"trainer__gradient_clip_val": 1.0}, "model.max_grad_norm"),
        ({"trainer__precision": "bf16-true"}, "bf16-mixed"),
        ({"trainer__fast_dev_run": True}, "trainer.max_steps"),
        ({"trainer__max_time": "00:01:00:00"}, "SIGTERM"),
        ({"trainer__max_epochs": 0}, "trainer.max_epochs 0"),
        ({"trainer__max_steps": 0}, "trainer.max_steps 0"),
        ({"trainer__accelerator": "gpu"}, "trainer: "),
        ({"trainer__val_check_interval": 100000}, "val_check_interval 100000"),
        ({"model__lr": -1.0}, "model.lr -1.0"),
        ({"model__lr": ".nan"}, "model.lr"),
        ({"model__betas": [0.9, 1.0]}, "model.betas"),
        ({"model__weight_decay": -0.1}, "model.weight_decay"),
        ({"model__warmup_frac": 1.5}, "model.warmup_frac"),
        ({"model__max_grad_norm": 0}, "model.max_grad_norm"),
        ({"model__max_bad_steps": 0}, "model.max_bad_steps"),
        ({"model__activation_memory_gib": "some"}, "model.activation_memory_gib"),
        ({"samples": {"count": 0}}, "samples.count 0"),
        ({"val_generation": {"rows": 0}}, "val_generation.rows 0"),
        ({"val_generation": {"every_steps": 3}, "trainer__val_check_interval": 4}, "val_check_interval 4: val_gen"),
        ({"val_generation": {"every_steps": 3}, "trainer__limit_val_batches": 0}, "limit_val_batches 0"),
        ({"val_generation": {"every_steps": 3}, "data__val_fraction": 0}, "raise data.val_fraction"),
        (
            {"val_generation": {"every_steps": 3}, "samples": {"every_steps": 0}, "data__seq_len": 96},
            "set val_generation.every_steps: 0",
        ),
        ({"val_generation": {"every_steps": 3}, "trainer__callbacks": [stop_on("val/chrf")]}, "init_args: {mode: max}"),
        ({"trainer__callbacks": [stop_on("val/chrf")]}, "EarlyStopping on val/chrf: no texts are scored"),
        ({"checkpoint__monitor": "val/rougeL"}, "checkpoint.monitor val/rougeL: no texts are scored"),
        ({"checkpoint__monitor": "val/rouge"}, "checkpoint.monitor 'val/rouge': choose from val/loss, val/rouge1"),
        ({"data__seq_len": 48}, "48"),
        ({"checkpoint__every_steps": 0}, "checkpoint.every_steps 0"),
        ({"checkpoint__every_minutes": -1}, "checkpoint.every_minutes"),
        ({"resume": "nowhere.ckpt"}, "neither auto, never nor"),
        ({"data__heldout_fraction": 1.5}, "heldout_fraction"),
        ({"run_name": ".."}, "run_name '..'"),
        ({"run_name": ""}, "run_name ''"),
        ({"data__micro_batch_size": None}, "data.micro_batch_size is null"),
        ({"trainer": 3}, "trainer 3"),
        ({"model__lora": 3}, "model.lora 3"),
        ({"model__lora": {"r": None}}, "model.lora.r is null"),
        ({"model__attention": "fast"}, "model.attention 'fast': choose from auto"),
        ({"model__optimizer": "sgd"}, "model.optimizer 'sgd': choose from paged_adamw_32bit"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_bad_config(capsys, tmp_path, base, changes, says):
    assert says in fails(capsys, "fit", "--config", config(tmp_path, **changes), "--runs_dir", tmp_path / "runs")
    assert not (tmp_path / "runs").exists(), "refused before anything is made"


def test_plan_refuses_a_target_that_is_not_trained(capsys, tmp_path, base):
    line = fails(capsys, "plan", config(tmp_path, model__lora={"target_modules": ".*(v_proj|lm_head)"}))
    assert "model.lora.target_modules .*(v_proj|lm_head)" in line and "all-linear" in line


@pytest.mark.parametrize("flag", ["accumulate_grad_batches", "max_epochs", "precision", "strategy"])
def test_plan_refuses_flags_as_fit_does(capsys, tmp_path, base, flag):
    bad = {"accumulate_grad_batches": 4, "max_epochs": 0, "precision": "bf16-true", "strategy": "deepspeed"}
    path = config(tmp_path, trainer={flag: bad[flag]})
    lines = [fails(capsys, *args).split(": ", 1) for args in (("plan", path), ("fit", "--config", path))]
    assert [said for _, said in lines] == [lines[0][1]] * 2 and f"trainer.{flag}" in lines[0][1]


@pytest.mark.parametrize("group", ["trainer", "data", "model", "model.lora"])
def test_an_option_over_a_group_that_is_none(capsys, tmp_path, group):
    outer, _, inner = group.partition(".")
    path = config(tmp_path, **{f"{outer}__{inner}" if inner else outer: 3})
    key = {"trainer": "max_steps", "data": "seq_len", "model": "max_bad_steps", "model.lora": "r"}[group]
    assert f"{group}: give its keys" in fails(capsys, "fit", "--config", path, f"--{group}.{key}", 64)


def test_config_that_is_not_yaml(capsys, tmp_path):
    (tmp_path / "c.yaml").write_text("data: [unclosed")
    assert "c.yaml" in fails(capsys, "fit", "--config", tmp_path / "c.yaml")


def test_bad_rows_are_named(capsys, tmp_path, base):
    for bad, says in (
        ("{not json", "not JSON"),
        ({**GOOD, "response": 7}, "must be text"),
        ({**GOOD, "response": " "}, "empty"),
        ({"prompt": "x"}, "no column 'instruction'"),
    ):
        path = write_rows(tmp_path, GOOD, bad)
        line = fails(capsys, "inspect", config(tmp_path, data__source=path))
        assert "rows.jsonl:2" in line and says in line


def test_missing_and_empty_data(capsys, tmp_path, base):
    assert "no such file" in fails(capsys, "inspect", config(tmp_path, data__source="no/such.jsonl"))
    assert "no rows" in fails(capsys, "inspect", config(tmp_path, data__source=write_rows(tmp_path)))


def test_base_without_weights(capsys, tmp_path, tiny_llama):
    folder = tmp_path / "base"
    folder.mkdir()
    for path in tiny_llama.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    arguments = config(tmp_path, model__base=str(folder)), "--runs_dir", tmp_path / "runs"
    assert "no *.safetensors weights" in fails(capsys, "fit", "--config", *arguments)


def test_full_disk_stops_with_the_checkpoint_before(capsys, tmp_path, tiny_llama, monkeypatch):
    """The kernel refuses the second half of the second checkpoint: the first stays whole, nothing half-written."""
    save, calls = torch.save, []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk(content, file):
        calls.append(1)
        if len(calls) == 2:
            size = (checkpoints / "step-000002.ckpt").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
        save(content, file)

    monkeypatch.setattr(torch, "save", fill_disk)
    path = config(
        tmp_path,
        model__base=str(tiny_llama),
        data__seq_len=256,
        data__micro_batch_size=1,
        trainer__max_steps=5,
        trainer__enable_progress_bar=False,
        checkpoint__every_steps=2,
        samples={"every_steps": 0},
    )
    checkpoints = tmp_path / "runs" / "full" / "checkpoints"
    arguments = ("fit", "--config", path, "--runs_dir", tmp_path / "runs", "--run_name", "full")
    try:
        line = fails(capsys, *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "step-000004.ckpt" in line and "too large" in line and "free some space" in line
    assert sorted(file.name for file in checkpoints.iterdir()) == ["step-000002.ckpt", "step-000002.json"]
    assert why_unusable(checkpoints / "step-000002.ckpt") == ""
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(SystemExit) as done:
        cli.main([str(arg) for arg in arguments])
    assert done.value.code == 0, "with room again, the same command goes on"


def test_gpu_without_bf16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(ValueError, match=r"Tesla T4 has no bf16; leave it out: the hardware decides"):
        check_precision(torch.device("cuda"), "bf16-mixed")
    check_precision(torch.device("cuda"), "32-true")


def test_run_that_is_none(capsys, tmp_path):
    assert "no such run folder" in fails(capsys, "evaluate", tmp_path / "nothing")
    assert "not a run folder" in fails(capsys, "merge", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_limit_zero(capsys, tmp_path):
    assert "--limit 0" in fails(capsys, "evaluate", tmp_path, "--limit", 0)


def test_instruction_longer_than_a_row_is_dropped_and_counted(capsys, tmp_path, base):
    rows = [
        {**GOOD, "instruction": f"What is comet {n}?", "response": f"Comet {n} is a ball of ice."} for n in range(40)
    ]
    rows.append({**GOOD, "instruction": "why " * 300, "response": "A long story."})
    path = config(tmp_path, data__source=write_rows(tmp_path, *rows), data__seq_len=128)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["inspect", path, "--json", "--data.heldout_fraction", "0", "--data.val_fraction", "0"])
    assert stopped.value.code == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["dropped"] == 1 and summary["train"] == 40 and summary["examples"] == 41


@pytest.mark.parametrize(("command", "says"), [("fit", "model.activation_memory_gib: 0"), ("evaluate", "--memory_gib")])
def test_memory_that_runs_out_is_one_line(monkeypatch, capsys, command, says):
    import importlib

    def run_out(args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore lines")

    monkeypatch.setattr(importlib.import_module(f"revinst.commands.{command}"), "main", run_out)
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "x"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and says in said
    assert said.startswith(f"revinst {command}: CUDA out of memory. Tried to allocate 2 GiB.; ")
