"""What `trainer.logger` names, and what of a config is told to others."""

import tomllib
from pathlib import Path

import pytest

from revinst.config.loggers import NOT_BROUGHT, check_loggers, is_installed, named_loggers, public_config
from revinst.config.parser import dump_config, read_config
from revinst.config.words import LOGGERS
from revinst.errors import UserError
from revinst.runs.loggers import MAKERS
from tests.tiny import run_in_process


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("null", ["tensorboard"]),
        ("true", ["tensorboard"]),
        ("false", []),
        ("csv", ["csv"]),
        ("[wandb, mlflow]", ["wandb", "mlflow"]),
        ("[comet, {class_path: CSVLogger, init_args: {save_dir: x}}]", ["comet"]),
    ],
)
def test_names(value, names):
    """On the command line and in the run's own config, beside Lightning's classes and callbacks."""
    for more in ([], ["--trainer.callbacks", "[Timer]"]):
        config = read_config(["--trainer.logger", value, *more])
        assert named_loggers(config.trainer.logger) == names
        assert ("class_path" in dump_config(config)) == (bool(more) or "class_path" in value)


def test_each_name_has_a_maker_and_an_extra():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {*MAKERS, "csv"} == {*LOGGERS}
    assert NOT_BROUGHT.keys() <= MAKERS.keys() & project["optional-dependencies"].keys()


@pytest.mark.parametrize("name", NOT_BROUGHT)
def test_one_that_is_not_installed_is_one_line(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr("revinst.config.loggers.find_spec", lambda module: None)
    monkeypatch.chdir(tmp_path)
    assert run_in_process("fit", "--trainer.logger", f"[csv, {name}]") == 2
    said = capsys.readouterr().err
    assert f"trainer.logger {name}: not installed; pip install 'revinst[{name}]'" in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())
    check_loggers(["csv", "tensorboard"])


def test_a_folder_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "left_by_a_logger").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed("yaml") and not is_installed("left_by_a_logger") and not is_installed("nowhere")


def test_twice():
    with pytest.raises(UserError, match="csv is named twice"):
        check_loggers(["csv", "csv"])


def test_no_secrets_and_no_places():
    told = public_config(
        {
            "model": {"base": "/home/mara/models/smol", "lr": 0.1},
            "data": {"source": ["~/mails.jsonl", {"source": "/data/b.jsonl", "weight": 2}, "own/c.jsonl"]},
            "trainer": {"logger": {"class_path": "CometLogger", "init_args": {"api_key": "secret"}}},
        }
    )
    assert told == {
        "model": {"base": "smol", "lr": 0.1},
        "data": {"source": ["mails.jsonl", {"source": "b.jsonl", "weight": 2}, "own/c.jsonl"]},
        "trainer": {"logger": "CometLogger"},
    }
