"""Values that no file should have are refused in one line, or mean nothing: found by fuzzing (`tests/survive`)."""

import json
import shutil
from pathlib import Path

import pytest
from jsonargparse import Namespace

from revinst.config.file import read_config_file, read_yaml
from revinst.config.parser import read_config
from revinst.data.vocabulary import read_ends
from revinst.errors import UserError
from revinst.evaluation.score_file import read_columns
from revinst.training.trainer import make_classes

DEEP = "[" * 5000  # Python's YAML descends until its stack is full


def test_yaml_of_any_depth_is_refused(tmp_path):
    (tmp_path / "deep.yaml").write_text(DEEP)
    with pytest.raises(UserError, match="not a YAML file"):
        read_config_file(str(tmp_path / "deep.yaml"))
    with pytest.raises(UserError, match="is not YAML any more"):
        read_yaml(DEEP)
    with pytest.raises(UserError, match="--columns"):
        read_columns(DEEP)


def test_a_trainers_option_of_another_kind_is_refused():
    with pytest.raises(UserError, match=r"^trainer\.accelerator: "):
        make_classes(Namespace(accelerator=True))


@pytest.mark.parametrize("key", ["precision", "num_nodes", "plugins"])
def test_an_empty_word_is_refused_by_its_key(tmp_path, key):
    (tmp_path / "config.yaml").write_text(f"trainer: {{{key}: ''}}\n")
    with pytest.raises(UserError, match=rf"^trainer\.{key} '': "):
        read_config(["--config", str(tmp_path / "config.yaml")])


@pytest.mark.parametrize(("ends", "expected"), [(2, [2]), ([2, 17], [2, 17]), (2.5, []), ("x", [])])
def test_ends_of_a_config_that_was_edited(base, smollm, tmp_path, ends, expected):
    shutil.copy(Path(base) / "config.json", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"eos_token_id": ends}
    (tmp_path / "config.json").write_text(json.dumps(config))
    special = {number for number, token in smollm.hf.added_tokens_decoder.items() if token.special}
    assert {2} <= special
    assert read_ends(str(tmp_path), smollm.hf) == [number for number in expected if number in special]


@pytest.mark.parametrize("settings", ["7", "[]", "{", '"text"'])
def test_generation_settings_that_are_none(smollm, tmp_path, base, settings):
    shutil.copy(Path(base) / "config.json", tmp_path)
    (tmp_path / "generation_config.json").write_text(settings)
    assert read_ends(str(tmp_path), smollm.hf) == [2]  # config.json's
