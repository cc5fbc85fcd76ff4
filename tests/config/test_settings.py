"""Settings are what a YAML file says and what plain Python says: documented, complete, and the same training."""

import ast
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from safetensors.torch import load_file

from revinst.config import settings
from revinst.config.parser import build_parser, dump_config, read_config
from revinst.config.settings import (
    CheckpointSettings,
    Config,
    DataSettings,
    LaunchSettings,
    LoraSettings,
    ModelSettings,
    SampleSettings,
    ValGenerationSettings,
)
from revinst.data.datamodule import InstructionDataModule
from revinst.training.module import InstructionModule
from tests.tiny import run_in_process

OTHERS: dict[str, dict[str, Any]] = {  # of every key, a value that is not its default
    "data": {
        "source": ["quickstart", {"source": "own.csv", "weight": 2.5}],
        "columns": {"instruction": "prompt", "response": "completion"},
        "template": "alpaca",
        "context": "include",
        "strip_citations": True,
        "supervise": "all",
        "seq_len": 512,
        "cut": "middle",
        "packing": "joined",
        "heldout_fraction": 0.25,
        "val_fraction": 0.125,
        "split": "other/split.json",
        "rows_per_step": 3,
        "micro_batch_size": 2,
        "on_bad_row": "skip",
    },
    "model": {
        "base": "models/other",
        "quantization": "none",
        "attention": "sdpa",
        "kernels": "plain",
        "base_gemm": "fp8",
        "activation_memory_gib": "auto",
        "lora": {"r": 8, "alpha": 32, "dropout": 0.25, "target_modules": ["q_proj", "v_proj"]},
        "optimizer": "adamw",
        "weight_decay": 0.5,
        "betas": [0.75, 0.5],
        "lr": 1e-3,
        "lr_schedule": "cosine",
        "warmup_frac": 0.5,
        "max_grad_norm": 2.0,
        "max_bad_steps": 7,
    },
    "checkpoint": {
        "every_steps": None,
        "every_epochs": 2,
        "every_minutes": None,
        "keep_last": 4,
        "keep_best": 0,
        "monitor": "val/chrf",
        "final": "mean",
    },
    "samples": {"every_steps": 9, "count": 1},
    "val_generation": {"every_steps": 3, "rows": 5, "samples": 2},
    "launch": {"max_restarts": 2, "hang_s": 90.0},
}
WHOLE = {"seed_everything": 7, "run_name": "other", "runs_dir": "here", "resume": "never", "resume_force": True}
PLAIN = {
    "data": DataSettings,
    "checkpoint": CheckpointSettings,
    "samples": SampleSettings,
    "val_generation": ValGenerationSettings,
    "launch": LaunchSettings,
}
KINDS = (*PLAIN.values(), LoraSettings, ModelSettings, Config)


def test_every_field_has_a_docstring_that_help_shows():
    classes = [node for node in ast.parse(Path(settings.__file__).read_text()).body if isinstance(node, ast.ClassDef)]
    assert {node.name for node in classes} == {kind.__name__ for kind in KINDS}
    shown = " ".join(build_parser().format_help().split())
    for node in classes:
        said = {
            field.target.id: " ".join(line.value.value.split())
            for field, line in pairwise(node.body)
            if isinstance(field, ast.AnnAssign) and isinstance(line, ast.Expr)
        }
        assert said.keys() == {field.name for field in fields(getattr(settings, node.name))} and all(said.values())
        keys = said.keys() - {*OTHERS, "trainer"}  # a group's line is its class's
        assert {key for key in keys if said[key][:20] not in shown} == set()


def test_every_key_of_a_file_reaches_its_field(tmp_path):
    for name, kind in PLAIN.items():
        assert OTHERS[name].keys() == {field.name for field in fields(kind)}
        assert all(asdict(kind())[key] != value for key, value in OTHERS[name].items())
    model = OTHERS["model"] | {"lora": LoraSettings(**OTHERS["model"]["lora"]), "betas": (0.75, 0.5)}
    for given, kind in ((model, ModelSettings), (OTHERS["model"]["lora"], LoraSettings)):
        assert given.keys() == {field.name for field in fields(kind)}
        assert all(getattr(kind(), key) != value for key, value in given.items())
    assert WHOLE.keys() | OTHERS.keys() | {"trainer"} == {field.name for field in fields(Config)}
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(WHOLE | OTHERS | {"trainer": {"max_steps": 3}}))
    config = read_config(["--config", str(path)])
    assert config == Config(
        trainer=config.trainer,
        data=DataSettings(**OTHERS["data"]),
        model=ModelSettings(**model),
        checkpoint=CheckpointSettings(**OTHERS["checkpoint"]),
        samples=SampleSettings(**OTHERS["samples"]),
        val_generation=ValGenerationSettings(**OTHERS["val_generation"]),
        launch=LaunchSettings(**OTHERS["launch"]),
        **WHOLE,
    )
    assert config.trainer.max_steps == 3 and config.trainer.use_distributed_sampler is False
    stored = yaml.safe_load(dump_config(config))
    assert {key: stored[key] for key in WHOLE | OTHERS} == WHOLE | OTHERS
    path.write_text(dump_config(config))
    assert read_config(["--config", str(path)]) == config


def test_settings_can_not_be_changed():
    """What was checked stays as it was checked."""
    for kind in KINDS[:-1]:
        with pytest.raises(AttributeError):
            setattr(kind(), fields(kind)[0].name, 1)


def test_plain_python_trains_as_the_file_does(tiny_llama, tmp_path):
    data = {"source": "quickstart", "seq_len": 256, "rows_per_step": 4, "micro_batch_size": 2}
    lora = {"r": 4, "alpha": 8, "dropout": 0.1}
    model = {"base": str(tiny_llama), "quantization": "none", "optimizer": "adamw", "lr": 1e-3}
    trainer = {"max_steps": 2, "accelerator": "cpu", "precision": "32-true", "enable_progress_bar": False}
    config = {"data": data, "model": model | {"lora": lora}, "trainer": trainer, "samples": {"every_steps": 0}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert run_in_process("fit", "--config", tmp_path / "config.yaml", "--runs_dir", tmp_path) == 0

    L.seed_everything(42)
    module = InstructionModule(ModelSettings(**model, lora=LoraSettings(**lora)))
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}
    plain = L.Trainer(**trainer, **quiet, use_distributed_sampler=False, default_root_dir=tmp_path)
    plain.fit(module, datamodule=InstructionDataModule(DataSettings(**data), module.settings.base))
    module.network.model.save_pretrained(tmp_path / "plain")
    by_file, by_hand = (
        load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "run" / "adapter", tmp_path / "plain")
    )
    assert by_file.keys() == by_hand.keys() and len(by_file) > 10
    assert all(torch.equal(by_file[name], by_hand[name]) for name in by_file)
    assert any(tensor.any() for name, tensor in by_file.items() if "lora_B" in name)
