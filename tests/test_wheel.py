"""What is installed without a checkout: the wheel has its data and configs, its extras exist, and it trains."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SIZE = "--trainer.max_steps 2 --data.seq_len 256 --data.rows_per_step 1 --samples.every_steps 0"


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
def installed(tmp_path_factory):
    """Where the scripts of a new environment are, which has the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("installed")
    options = [*shlex.split(os.environ.get("PIP_ARGS", "")), "-c", str(ROOT / "constraints.txt")]
    pip(sys.executable, "wheel", "--no-deps", "-w", str(folder), str(ROOT))
    (wheel,) = folder.glob("revinst-*.whl")
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip(str(scripts / "python"), "install", *options, f"{wheel}[gguf]")
    yield scripts
    shutil.rmtree(folder)  # two gigabytes, of which pytest would keep three


def pip(python: str, *args: str) -> None:
    done = subprocess.run([python, "-m", "pip", "-q", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def run(installed, tmp_path):
    """A function that runs a program of the environment as its user would, from an empty folder or one below it."""
    offline = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | offline
    empty = tmp_path / "empty"
    empty.mkdir()

    def run_line(line: str, folder: str = ".", code: int = 0) -> str:
        program, *args = shlex.split(line)
        done = subprocess.run(
            [installed / program, *args], cwd=empty / folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"{line}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    return run_line


@pytest.mark.wide
@pytest.mark.timeout(1800)
def test_the_wheel_trains_two_steps_from_an_empty_folder(installed, run, base, tmp_path):
    found = run("python -c 'import revinst; print(revinst.__file__)'")
    assert Path(found.strip()).is_relative_to(installed.parent)
    assert "did you mean quickstart" in run("revinst fit configs/quickstart.yaml", code=2)
    assert "revinst fetch quickstart" in run("revinst fit quickstart", code=2)
    enter, *typed = [line.strip() for line in run("revinst init mine").splitlines()[2:]]
    assert enter == "cd mine"
    for line in typed:
        more = {"fit": SIZE, "evaluate": "--limit 2 --max_new_tokens 4"}.get(line.split()[1], "")
        run(f"{line} {more}", "mine")
    trained = tmp_path / "empty" / "mine" / "runs" / "mine"
    manifest = json.loads((trained / "manifest.json").read_text())
    assert manifest["completed"] and manifest["steps"] == 2
    assert (trained / "adapter" / "adapter_model.safetensors").is_file()
    assert list(trained.glob("evaluation/*/report.html"))
