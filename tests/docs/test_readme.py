"""What README.md names exists, and its Python example trains."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from revinst.cli import COMMANDS
from revinst.runs.folder import Run

MADE_BY_RUNNING = ("runs/", "models/", ".venv")  # not in a fresh checkout
STAND_INS = {"texts.jsonl", "instructions.jsonl"}  # the reader's own files


@pytest.fixture(scope="module")
def readme(root) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def code(readme) -> list[str]:
    """Fenced blocks, and what stands in backquotes outside of them."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    rest = re.sub(r"^```\w*\n.*?^```$", "", readme, flags=re.MULTILINE | re.DOTALL)
    return blocks + re.findall(r"`([^`\n]+)`", rest)


@pytest.fixture(scope="module")
def command_lines(code) -> list[list[str]]:
    """Every `revinst ...` that README shows, split into words."""
    lines = [shlex.split(line) for text in code for line in text.splitlines() if line.startswith("revinst ")]
    return [line for line in lines if line[1] != "COMMAND"]


def test_python_example_trains(readme, tiny_base, offline_cpu, tmp_path):
    """As README spells it, but for a tiny base, two steps and shorter rows."""
    from safetensors.torch import load_file

    (example,) = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 10
    for old, new in {
        "models/smollm2-135m": tiny_base.as_posix(),
        "max_epochs=2": "max_steps=2",
        "seq_len=1024": "seq_len=256",
    }.items():
        assert old in example
        example = example.replace(old, new)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=offline_cpu, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    adapter = tmp_path / "runs" / "python" / "adapter"
    state = load_file(adapter / "adapter_model.safetensors")
    lora_b = [tensor for name, tensor in state.items() if "lora_B" in name]
    assert len(lora_b) == 14  # 7 linear layers x 2 decoder layers; all zero before training
    # Adam moves a weight by lr in the first step and by no more than about as much again in the second.
    assert all(1e-4 < tensor.abs().max() < 3e-3 for tensor in lora_b)
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_base)


def test_paths_exist(root, readme, code):
    pattern = r"(?<![\w/.:-])(?:[\w.-]+/)*[\w-]+\.(?:py|yaml|md|txt|jsonl|json|csv)\b"
    named = {match for text in code if "import" not in text for match in re.findall(pattern, text)}
    named |= set(re.findall(r"\]\(([^)#:]+)\)", readme))
    inside_a_run = {
        "config.yaml",
        "discarded.jsonl",
        "manifest.json",
        "split.json",
        "metrics.csv",
        "predictions.jsonl",
        "scores.json",
    }
    to_check = {name for name in named if not name.startswith(MADE_BY_RUNNING) and name not in inside_a_run | STAND_INS}
    assert {"configs/quickstart.yaml", "revinst/training/module.py", "docs/change-the-loop.md"} <= to_check
    assert {name for name in to_check if not (root / name).is_file()} == set()


def test_files_of_the_flow_exist(root, code):
    (flow,) = [text for text in code if "──>" in text]
    stages = re.findall(r"\b(?:data|model|inference|evaluation|export|training)/\w+", flow)
    assert len(stages) == len(set(stages)) == 14
    assert {stage for stage in stages if not (root / "revinst" / f"{stage}.py").is_file()} == set()


def test_where_to_change_what_exists(root, readme):
    rows = re.findall(r"^\| the [^|]+\| `([^`]+)` \| (.+) \|$", readme, re.MULTILINE)
    assert len(rows) == 7
    for path, there in rows:
        source = (root / path).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", there):
            assert re.search(rf"^((def|class) )?{name}\b", source, re.MULTILINE), f"{name} in {path}"


def test_commands_exist(root, command_lines):
    from revinst.config.parser import build_parser

    assert {line[1] for line in command_lines} == set(COMMANDS)
    for _, command, *args in command_lines:
        sources = [root / "revinst" / f"commands/{name}.py" for name in (command, "options", "reading")]
        options = "".join(path.read_text(encoding="utf-8") for path in sources)
        options += "".join(f'"{option}"' for option in build_parser()._option_string_actions) * (command == "fit")
        for arg in args:
            if arg.startswith("--") and "." not in arg:
                assert f'"{arg}"' in options, f"revinst {command} {arg}"


def test_configs_and_overrides_parse(root, command_lines, monkeypatch):
    from revinst.config.parser import read_config

    monkeypatch.chdir(root)
    parsed = 0
    for _, command, *args in command_lines:
        if command in ("fit", "inspect", "plan") and args:
            read_config(args if command == "fit" else ["--config", *args])
            parsed += 1
    assert parsed == 4


def test_make_targets_exist(root, code):
    used = {target for text in code for target in re.findall(r"^make (\w+)", text, re.MULTILINE)}
    assert used == {"quickstart", "test", "setup", "help"}
    makefile = root / "Makefile"
    if makefile.is_file():
        assert used <= set(re.findall(r"^(\w+):", makefile.read_text(encoding="utf-8"), re.MULTILINE))


def test_run_folder_is_laid_out_as_drawn(code):
    (drawn,) = [text for text in code if text.startswith("runs/quickstart/\n")]
    names = {line.split()[0].rstrip("/") for line in drawn.splitlines()[1:]}
    paths = vars(Run("runs/quickstart"))
    assert names == {path.name for name, path in paths.items() if name not in ("path", "lock_file", "owner_file")}
