"""What is installed without a checkout: the wheel has its data and configs, its extras exist, and it trains."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SIZE = ("--trainer.max_steps", "2", "--data.seq_len", "256", "--data.rows_per_step", "1", "--samples.every_steps", "0")


def test_extras_that_are_advised_exist():
    """In messages and pages; and those of `dev` are no other versions."""
    extras = PROJECT["optional-dependencies"]
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*"), *ROOT.glob("revinst/**/*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    advised = {name for names in re.findall(r"revinst\[([a-z,]+)\]", text) for name in names.split(",")}
    assert {"demo", "gguf", "own", "semantic"} <= advised <= extras.keys()
    for name in ("demo", "gguf", "own"):
        assert set(extras[name]) <= set(extras["dev"]), name


def test_what_is_imported_is_declared():
    """Also where it is imported late; Triton comes with those builds of PyTorch that it works with."""
    extras = PROJECT["optional-dependencies"]
    asked = PROJECT["dependencies"] + [line for name, lines in extras.items() if name != "dev" for line in lines]
    declared = {re.split(r"[^\w.-]", line)[0].lower() for line in asked}
    found, missing = packages_distributions(), {}
    for path in ROOT.glob("revinst/**/*.py"):
        for name in list_imported(path.read_text(encoding="utf-8")) - sys.stdlib_module_names - {"revinst", "triton"}:
            packages = {package.lower().replace("_", "-") for package in found.get(name, [name])}
            if not packages & declared:
                missing[name] = path.name
    assert missing == {} and len(declared) > 25


def list_imported(code: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(code)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Where the scripts of a new environment are, which has the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("installed")
    options = [*shlex.split(os.environ.get("PIP_ARGS", "")), "-c", str(ROOT / "constraints.txt")]
    pip(sys.executable, "wheel", "--no-deps", "-w", str(folder), str(ROOT))
    (wheel,) = folder.glob("revinst-*.whl")
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip(str(scripts / "python"), "install", *options, f"{wheel}[gguf]")
    return scripts


def pip(python: str, *args: str) -> None:
    done = subprocess.run([python, "-m", "pip", "-q", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def revinst(installed, tmp_path):
    """A function that runs one command as its user would, in an empty folder."""
    hidden = {"PYTHONPATH", "VIRTUAL_ENV"}
    offline = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    env = {name: value for name, value in os.environ.items() if name not in hidden} | offline
    (tmp_path / "empty").mkdir()

    def run(line: str, folder: str = "empty", code: int = 0) -> str:
        command = [installed / "revinst", *shlex.split(line)]
        done = subprocess.run(
            command, cwd=tmp_path / folder, env=env, capture_output=True, text=True, encoding="utf-8", check=False
        )
        assert done.returncode == code, f"{line}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    return run


@pytest.mark.wide
@pytest.mark.timeout(1200)
def test_the_wheel_trains_two_steps_from_an_empty_folder(installed, revinst, base, tmp_path):
    where = subprocess.run(
        [installed / "python", "-c", "import revinst; print(revinst.__file__)"],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(installed.parent)
    assert "did you mean quickstart" in revinst("fit configs/quickstart.yaml", code=2)
    assert "revinst fetch quickstart" in revinst("fit quickstart", code=2)
    typed = [line.strip() for line in revinst("init mine").splitlines()[2:]]
    assert typed[0] == "cd mine"
    for line in typed[1:4]:  # fetch, inspect and plan
        revinst(line.removeprefix("revinst "), "empty/mine")
    assert typed[4].startswith("revinst fit ")
    revinst(shlex.join([*shlex.split(typed[4])[1:], *SIZE]), "empty/mine")
    run = tmp_path / "empty" / "mine" / "runs" / "mine"
    manifest = json.loads((run / "manifest.json").read_text())
    assert (
        manifest["completed"] and manifest["steps"] == 2 and (run / "adapter" / "adapter_model.safetensors").is_file()
    )
    revinst(f"{typed[5].removeprefix('revinst ')} --limit 2 --max_new_tokens 4", "empty/mine")
