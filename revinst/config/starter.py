"""A config to begin with: one that comes with revinst, what each key means above it."""

from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml

from revinst.config.file import read_config_file
from revinst.config.parser import build_parser, read_config
from revinst.config.settings import Config
from revinst.config.shipped import list_shipped
from revinst.errors import UserError
from revinst.runs.folder import Run

WIDTH = 118
HEAD = """# Begun from {name}, which comes with revinst. What is not here has its default: `revinst fit --help`
# names all keys, and `revinst fit --help_all` says what they mean.

"""


def write_starter(folder: Path, name: str, base: str | None) -> Path:
    """`folder`/config.yaml: the config `name`, commented; its run is called as the folder is. base: hub id or folder in
    place of its own. Raises UserError where there is one already.
    """
    if not folder.resolve().name:
        raise UserError("DIR: give a folder of its own, whose name the run takes")
    path = Run(folder).config
    if path.exists():
        raise UserError(f"{path} is there already and is not overwritten; name another folder, or move it away")
    content = read_config_file(str(list_shipped()[name])) | {"run_name": folder.resolve().name}
    if base:
        is_folder = Path(base).expanduser().is_dir()  # the run starts elsewhere
        content["model"]["base"] = str(Path(base).expanduser().absolute()) if is_folder else base
    said = {action.dest: str(action.help) for action in build_parser()._actions}
    folder.mkdir(parents=True, exist_ok=True)
    text = HEAD.format(name=name) + "\n".join(render_keys(content, said)) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def read_starter(path: Path) -> Config:
    return read_config(["--config", str(path)])


def render_keys(content: dict[str, Any], said: dict[str, str], group: str = "") -> list[str]:
    lines, indent = [], "  " * group.count(".")
    for key, value in content.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *render_keys(value, said, f"{group}{key}.")]
            continue
        meaning = " ".join(said[f"{group}{key}"].split())
        lines += wrap(meaning, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        written = yaml.safe_dump(value, default_flow_style=True, width=WIDTH).removesuffix("...\n").strip()
        lines.append(f"{indent}{key}: {written}")
    return lines
