"""What README.md and the pages of docs/ name exists: files, links and their headings, commands with their options,
config keys, scripts, make targets; and the Python example trains."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from revinst.cli import COMMANDS
from revinst.runs.folder import Run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [path.relative_to(ROOT).as_posix() for path in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")))]
MADE_BY_RUNNING = ("runs/", "models/", ".venv")  # not in a fresh checkout
FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OF_A_SHELL = re.compile(r"\s*(?:[A-Z_]+=\S+ )*(revinst|python|make) ")


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def code_of(page: str) -> list[str]:
    """Fenced and indented blocks, and what stands in backquotes outside of them."""
    text = read(page)
    rest = FENCED.sub("", text)
    indented = re.findall(r"(?:^(?: {4}|\t).*\n?)+", rest, re.MULTILINE)
    return FENCED.findall(text) + indented + re.findall(r"`([^`]+)`", re.sub(r"^ {4}.*$", "", rest, flags=re.MULTILINE))


def lines_of(page: str, program: str) -> Iterator[list[str]]:
    """Every line of a shell that begins with the program, split into words; `\\` joins lines."""
    for text in code_of(page):
        for line in re.sub(r"\\\n\s*", "", text).splitlines():
            found = OF_A_SHELL.match(line)
            if found and found[1] == program:
                yield shlex.split(line[found.start(1) :], comments=True)


def slugs(page: str) -> set[str]:
    """Anchors of headings as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", read(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", FENCED.sub("", read(page))):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in slugs(path.resolve().relative_to(ROOT).as_posix()), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page):
    from revinst.config.parser import build_parser

    of_configs = {"fit", "plan", "inspect"}
    for _, command, *args in lines_of(page, "revinst"):
        if not command.islower() or command == "--completion":
            continue
        assert command in COMMANDS
        sources = [
            ROOT / "revinst" / f"commands/{name}.py" for name in (command, "options", "decoding", "judging", "reading")
        ]
        options = "".join(path.read_text(encoding="utf-8") for path in sources)
        options += "".join(f'"{option}"' for option in build_parser()._option_string_actions) * (command in of_configs)
        for arg in args:
            if arg.startswith("--") and "." not in arg:
                assert f'"{arg.split("=")[0]}"' in options, f"revinst {command} {arg}"


@pytest.mark.parametrize("page", PAGES)
def test_configs_and_overrides_parse(page, monkeypatch):
    from revinst.config.parser import read_config

    monkeypatch.chdir(ROOT)
    for _, command, *args in lines_of(page, "revinst"):
        shown = [arg for arg in args if re.fullmatch(r"configs/[\w.-]+\.yaml", arg)]
        placeholder = any(re.search(r"\b[A-Z]{3,}|\.\.\.", arg) for arg in args)
        if command in ("fit", "plan", "inspect") and shown and not placeholder:
            own = {"--json", "--measure"}
            given = [arg for arg in args if arg not in own]
            read_config(given if "--config" in given else ["--config", *given])


@pytest.mark.parametrize("page", PAGES)
def test_scripts_and_their_options_exist(page):
    for _, script, *args in lines_of(page, "python"):
        if not script.startswith("scripts/"):
            continue
        text = read(script)
        for arg in args[: args.index("--")] if "--" in args else args:
            if arg.startswith("--") and "." not in arg:
                assert f'"{arg}"' in text, f"{script} {arg}"


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))
    used = {target for _, target, *variables in lines_of(page, "make") if all("=" in word for word in variables)}
    assert used <= targets


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_files_that_are_named_exist(page):
    """Whole paths of the repository; NAME and the like stand for one."""
    named = {
        match
        for text in code_of(page)
        for match in re.findall(r"(?<![\w/.:-])(?:revinst|scripts|tests|configs|docs|dev)/[\w/.-]+\.\w+\b", text)
    }
    assert {name for name in named if not (ROOT / name).is_file() and Path(name).stem != "NAME"} == set()


def test_every_command_is_in_the_table():
    table = re.findall(r"^\| `revinst (\w+) [^|]*\|", read("README.md"), re.MULTILINE)
    assert sorted(table) == sorted(COMMANDS)


def test_every_config_is_in_the_table():
    table = re.findall(r"\[`(configs/[\w.-]+)`\]", read("docs/commands.md"))
    assert sorted(set(table)) == sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("configs/*.yaml"))


def test_the_readme_is_short():
    """One screen and what one looks up at once; the rest is in docs/."""
    assert len(read("README.md").split()) <= 1200


def test_every_page_is_linked():
    """A page that no other names is not found."""
    linked = set()
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", read(page)):
            linked.add(((ROOT / page).parent / target).resolve())
    assert {page for page in PAGES if page.startswith("docs/") and (ROOT / page).resolve() not in linked} == set()


def test_python_example_trains(tiny_base, offline_cpu, tmp_path):
    """As it is spelt, but for a tiny base, two steps and shorter rows."""
    from safetensors.torch import load_file

    (example,) = re.findall(r"^```python\n(.*?)^```$", read("docs/commands.md"), re.MULTILINE | re.DOTALL)
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


def test_files_of_the_flow_exist():
    (flow,) = [text for text in code_of("README.md") if "──>" in text]
    stages = re.findall(r"\b(?:data|model|inference|evaluation|export|training)/\w+", flow)
    assert len(stages) == len(set(stages)) == 14
    assert {stage for stage in stages if not (ROOT / "revinst" / f"{stage}.py").is_file()} == set()


def test_where_to_change_what_exists():
    rows = re.findall(r"^\| (?:the|what|which) [^|]+\| `([^`]+)` \| (.+) \|$", read("README.md"), re.MULTILINE)
    assert len(rows) == 10
    for path, there in rows:
        source = read(path)
        for name in re.findall(r"`(\w+)`", there):
            assert re.search(rf"^((def|class) )?{name}\b", source, re.MULTILINE), f"{name} in {path}"


def test_run_folder_is_laid_out_as_drawn():
    (drawn,) = [text for text in code_of("docs/commands.md") if text.startswith("runs/quickstart/\n")]
    names = {line.split()[0].rstrip("/") for line in drawn.splitlines()[1:]}
    paths = vars(Run("runs/quickstart"))
    assert names == {path.name for name, path in paths.items() if name not in ("path", "lock_file", "owner_file")}


def test_the_thresholds_of_filters_are_the_defaults():
    from revinst.corpus.filters import Thresholds

    said_as, shown = {"on": True, "off": None}, {}
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ((?:[\d., ]|off)+|on) \|", read("docs/own-texts.md"), re.MULTILINE)
    for names, values in rows:
        values_said = [said_as[value] if value in said_as else float(value) for value in values.split(", ")]
        shown |= dict(zip(re.findall(r"`(\w+)`", names), values_said, strict=True))
    assert shown == asdict(Thresholds())
