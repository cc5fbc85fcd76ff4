"""Runs of older versions stay usable; `fit` says what to write in place of a key that is gone."""

from pathlib import Path

import pytest
import yaml

from revinst.config.parser import dump_config, read_config
from revinst.config.stored import read_run_config
from revinst.errors import UserError
from revinst.training.resume import config_difference
from tests.tiny import run_in_process

OLD = {"micro_batch_size": 6, "micro_batches_per_step": 2}


@pytest.fixture
def write_config(tmp_path):
    def write(name: str, data: dict, **trainer) -> str:
        content = {
            "run_name": "old",
            "data": {"source": "quickstart"} | data,
            "model": {"base": "models/smollm2-135m"},
            "trainer": {"max_epochs": 3} | trainer,
        }
        (tmp_path / name).write_text(yaml.safe_dump(content))
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize(("trainer", "rows"), [({}, 12), ({"devices": 8}, 96), ({"devices": 4, "num_nodes": 2}, 96)])
def test_fit_names_the_new_key_and_its_value(write_config, capsys, trainer, rows):
    path = write_config("old.yaml", OLD, **trainer)
    assert run_in_process("fit", "--config", path) == 2
    said = capsys.readouterr().err
    assert f"{path}: data.micro_batches_per_step" in said and f"write data.rows_per_step: {rows} in its place" in said


def test_the_old_key_on_the_command_line(write_config, capsys):
    path = write_config("new.yaml", {"rows_per_step": 12})
    assert run_in_process("fit", "--config", path, "--data.micro_batches_per_step", 4) == 2
    assert "give --data.rows_per_step" in capsys.readouterr().err


@pytest.mark.parametrize(("world_size", "rows"), [(None, 12), (1, 12), (4, 48)])
def test_a_stored_config_means_what_it_meant(write_config, world_size, rows):
    config = read_run_config(Path(write_config("old.yaml", OLD)), world_size)
    assert (config.data.rows_per_step, config.data.micro_batch_size) == (rows, 6)


@pytest.mark.parametrize(("world_size", "rows"), [(1, 12), (4, 48)])
def test_a_run_that_goes_on_is_compared_by_it(write_config, world_size, rows):
    """Only another number of rows is another config; how many go through the network at once is free."""
    old = resolved(write_config("full.yaml", {}))
    old = old.replace("  rows_per_step: 8\n", "  micro_batches_per_step: 2\n").replace("_size: auto", "_size: 6")
    assert old.count("micro_batches_per_step: 2") == old.count("micro_batch_size: 6") == 1
    same, other = (resolved(write_config("new.yaml", {"rows_per_step": n})) for n in (rows, 7))
    assert config_difference(old, same, world_size) == []
    assert config_difference(old, other, world_size) == [f"data.rows_per_step: {rows} -> 7"]


def resolved(path: str) -> str:
    return dump_config(read_config(["--config", path]))


def test_a_config_that_is_no_mapping_is_refused(tmp_path):
    (tmp_path / "old.yaml").write_text("- 1\n")
    with pytest.raises(UserError):
        read_run_config(tmp_path / "old.yaml")


def test_what_makes_a_run_fit_again_may_change(write_config):
    """Or the advice of a run that ran out of memory could not be followed."""
    before, after = (resolved(write_config("new.yaml", data)) for data in ({}, {"micro_batch_size": 1}))
    after = after.replace("activation_memory_gib: 0", "activation_memory_gib: 2.5")
    assert before.count("activation_memory_gib: 0") == 1 and config_difference(before, after) == []
