"""Which part each file of a folder is, where its README.md says so, as data sets of the hub do
(https://huggingface.co/docs/hub/datasets-manual-configuration):

    ---
    configs:
    - config_name: default
      data_files: [{split: train, path: "data/*.jsonl"}, {split: test, path: held/rows.jsonl}]
    ---
"""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from revinst.errors import UserError

FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)


def read_declared(folder: Path) -> dict[str, str]:
    """File, relative to the folder -> its part; {} where nothing is declared. Raises UserError where it is not clear
    which of several configurations is meant, and where files of the training part are not there.
    """
    card = folder / "README.md"
    configs = [each for each in read_configs(card) if isinstance(each, dict) and each.get("data_files")]
    if len(configs) > 1:
        marked = [each for each in configs if each.get("default") is True]
        named = marked or [each for each in configs if each.get("config_name") == "default"]
        if len(named) != 1:
            names = ", ".join(str(each.get("config_name")) for each in configs)
            raise UserError(f"{card}: several configurations ({names}); name the files of one in data.source")
        configs = named
    parts: dict[str, str] = {}
    for each in configs:
        for part, pattern in list_patterns(each["data_files"]):
            try:
                found = [path.relative_to(folder).as_posix() for path in folder.glob(pattern)]
            except (ValueError, NotImplementedError):  # pathlib's, for an empty or absolute path and one that leads out
                found = []
            if not found and part == "train":
                raise UserError(
                    f"{card}: of the training part it names {pattern!r}, no file in this folder; name the files "
                    "to train on in data.source"
                )
            parts |= dict.fromkeys(found, part)
    return parts


def read_configs(card: Path) -> list[object]:
    try:
        found = FRONT_MATTER.match(card.read_text(encoding="utf-8-sig"))
        content = yaml.safe_load(found[1]) if found else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):  # none, or one that says nothing
        return []
    configs = content.get("configs") if isinstance(content, dict) else None
    return configs if isinstance(configs, list) else []


def list_patterns(files: object, part: str = "train") -> Iterator[tuple[str, str]]:
    """(part, pattern) of each form that `data_files` may have."""
    if isinstance(files, str):
        yield part, files
    elif isinstance(files, dict) and "path" in files:
        yield from list_patterns(files["path"], str(files.get("split", part)))
    elif isinstance(files, dict):
        for name, inner in files.items():
            yield from list_patterns(inner, str(name))
    elif isinstance(files, list):
        for inner in files:
            yield from list_patterns(inner, part)
