"""What is known before anything heavy is imported is what the heavy parts obey."""

import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import lightning as L
import pytest
import yaml

from revinst.cli import COMMANDS, command_of
from revinst.config.completion import write_completion
from revinst.config.elsewhere import OURS, say_nearest_key
from revinst.config.keys import flatten
from revinst.config.parser import OF_CLASSES, build_parser, defaults_of, dump_config, names_a_class, read_config
from revinst.config.settings import CheckpointSettings, DataSettings, ModelSettings
from revinst.config.stored import default_config, read_run_config
from revinst.config.values import hint_of, say_what_it_takes, words_of
from revinst.config.words import (
    ATTENTION_BACKENDS,
    DTYPES,
    GGUF_FORMATS,
    KEY_WORDS,
    TEMPLATES,
    UTILITIES,
    check_words,
)
from revinst.errors import UserError
from revinst.export.gguf import FORMATS
from revinst.inference.votes import LIKENESS
from revinst.model import hardware
from revinst.model.attention import BACKENDS

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_is_the_trainers():
    """Written by the script from the Lightning that is installed."""
    import scripts.write_trainer_keys as script

    assert script.FILE.read_text(encoding="utf-8") == script.write_keys(), "run scripts/write_trainer_keys.py"


def test_the_table_parses_as_the_trainer_does(tmp_path):
    quick, whole = build_parser(), build_parser(L.Trainer)
    assert defaults_of(quick) == defaults_of(whole)
    plain = {option for option in whole._option_string_actions if not option.endswith(("+", ".help"))}
    assert plain == {option for option in quick._option_string_actions if not option.endswith("+")}
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        one, other = (parser.parse_args(["--config", str(path)]) for parser in (quick, whole))
        assert quick.dump(one, skip_none=False) == whole.dump(other, skip_none=False)


def test_a_class_is_parsed_by_lightning():
    assert not names_a_class("strategy", "ddp") and not names_a_class("logger", False)
    assert not names_a_class("logger", ["wandb", "csv"]) and names_a_class("logger", ["wandb", "CSVLogger"])
    assert names_a_class("strategy", "DDPStrategy") and names_a_class("logger", [{"class_path": "CSVLogger"}])
    config = read_config(["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "x"])
    assert config.trainer.logger.class_path == "lightning.pytorch.loggers.CSVLogger"
    assert yaml.safe_load(dump_config(config))["trainer"]["logger"]["init_args"]["save_dir"] == "x"
    assert {key for key in OF_CLASSES if not hasattr(config.trainer, key)} == set()


def test_a_class_that_can_not_be_made_is_said_with_the_reason():
    for value, says in {
        "CSVLogger": "trainer.logger: lightning.pytorch.loggers.CSVLogger: the following arguments are required: save_",
        "{class_path: my.Own}": "trainer.logger: my.Own: No module named 'my'; looked for beside the config too",
        "wand": "trainer.logger 'wand': choose from tensorboard, csv, wandb, mlflow, comet, or a class of Lightning",
        "[csv, wand]": "trainer.logger 'wand': choose from tensorboard, csv, wandb, mlflow, comet, or a class of ",
    }.items():
        with pytest.raises(UserError, match=f"^{re.escape(says)}"):
            read_config(["--trainer.logger", value])


def test_a_class_of_ones_own_lies_in_the_working_folder_or_beside_the_config(tmp_path, monkeypatch):
    """As the `revinst` script starts: neither is on the path. A file of an installed module's name hides nothing."""
    (tmp_path / "configs").mkdir()
    config, before = tmp_path / "configs" / "run.yaml", [folder for folder in sys.path if folder not in ("", str(ROOT))]
    callbacks = [{"class_path": f"{name}.Watch", "init_args": {"limit": 2.0}} for name in ("lies_here", "lies_beside")]
    config.write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    own = "import lightning\n\nclass Watch(lightning.Callback):\n    def __init__(self, limit: float): ...\n"
    for path in ("lies_here.py", "configs/lies_beside.py", "configs/jinja2.py"):
        (tmp_path / path).write_text(own)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", before)
    found = [callback.class_path for callback in read_config(["--config", "configs/run.yaml"]).trainer.callbacks]
    assert found == ["lies_here.Watch", "lies_beside.Watch"]
    assert sys.path[-2:] == [str(tmp_path), str(tmp_path / "configs")], "once, and after all that is installed"
    read_config(["--config", "configs/run.yaml"])
    assert sys.path.count(str(tmp_path)) == 1
    (tmp_path / "lies_here.py").write_text("import no_such_module")
    for name in ("lies_here", "lies_beside"):
        sys.modules.pop(name)
    with pytest.raises(
        UserError, match=r"^trainer.callbacks: lies_here.Watch: No module named 'no_such_module'; looked"
    ):
        read_config(["--config", "configs/run.yaml"])
    assert read_run_config(config).trainer.callbacks is None, "whoever reads a run's config needs no callback"


def test_words_are_those_that_are_obeyed():
    assert set(BACKENDS) == set(ATTENTION_BACKENDS)
    assert set(FORMATS) == set(GGUF_FORMATS) and set(hardware.DTYPES) == set(DTYPES)
    shipped = {path.name.removesuffix(".txt") for path in files("revinst.data").joinpath("templates").iterdir()}
    assert shipped | {"chat"} == set(TEMPLATES)
    assert set(LIKENESS) == set(UTILITIES) and KEY_WORDS.keys() <= flatten(default_config()).keys()


@pytest.mark.parametrize("key", [key for key in KEY_WORDS if not key.startswith("trainer")])
def test_plain_python_is_checked_too(key):
    group, _, name = key.partition(".")
    with pytest.raises(UserError, match=f"{key} 'square': choose from {KEY_WORDS[key][0]}, "):
        {"data": DataSettings, "model": ModelSettings, "checkpoint": CheckpointSettings}[group](**{name: "square"})
    check_words("data.", DataSettings())


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("model.lr", "must be a number"),
        ("checkpoint.every_steps", "must be a whole number or null"),
        ("data.strip_citations", "choose from true, false"),
        ("trainer.precision", "choose from bf16-mixed, 16-mixed, 32-true"),
        ("trainer.deterministic", "choose from true, false, warn"),
        ("data.columns", "must be a mapping or null"),
        ("model.betas", "must be a list"),
        ("seed_everything", "must be a whole number"),
        ("trainer.logger", "choose from tensorboard, csv, wandb, mlflow, comet"),
    ],
)
def test_what_a_key_takes(key, says):
    assert say_what_it_takes(key) == says


def test_every_key_can_be_explained():
    keys = flatten(default_config())
    assert len(keys) > 80
    for key in keys:
        assert say_what_it_takes(key).startswith(("must be ", "choose from ")), (key, hint_of(key))
        assert words_of(key) == () or say_what_it_takes(key).startswith("choose")


def test_names_of_other_libraries_lead_to_ours():
    keys = flatten(default_config())
    assert set(OURS.values()) <= keys.keys() and not OURS.keys() & keys.keys()
    for name, ours in OURS.items():
        assert say_nearest_key(f"--{name}", [f"--{key}" for key in keys]) == f"; did you mean --{ours}?"
        assert say_nearest_key(f"train.{name}", keys) == f"; did you mean {ours}?"


def test_tab():
    """In bash itself: commands, keys, the words of a key, and else nothing, so that bash offers files."""
    if (bash := shutil.which("bash")) is None:
        pytest.skip("no bash")
    script = write_completion({name: command_of(name).build_options() for name in COMMANDS})
    asked = {
        ("ev",): ["evaluate"],
        ("fit", "--model.lora."): [f"--model.lora.{name}" for name in ("r", "alpha", "dropout", "target_modules")],
        ("fit", "--model.lr_schedule", ""): ["constant", "linear", "cosine"],
        ("plan", "x.yaml", "--mea"): ["--measure"],
        ("evaluate", "runs/x", "--part", "v"): ["val"],
        ("merge", "a", "b", "--onto", ""): ["nf4", "16bit"],
        ("fit", "--data.source", ""): [],
    }
    for typed, _ in asked.items():
        words = " ".join(f"'{word}'" for word in ("revinst", *typed))
        script += f'COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _revinst; echo "> ${{COMPREPLY[*]}}"\n'
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True)
    offered = [line.removeprefix("> ").split() for line in done.stdout.splitlines()]
    assert dict(zip(asked, offered, strict=True)) == asked
