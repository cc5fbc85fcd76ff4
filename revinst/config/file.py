"""A config's file, read and checked for what its parser would not say clearly."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate, pairwise, zip_longest
from pathlib import Path
from typing import Any

import yaml

from revinst.config.elsewhere import say_nearest_key
from revinst.config.keys import OLD_KEY, flatten, take_old_keys, unknown_keys
from revinst.config.shipped import list_shipped, say_shipped
from revinst.errors import UserError
from revinst.runs.folder import Run

# What is no key, because another one says it: nobody can write one value twice.
TAKEN_FROM = {"data.base": "model.base", "data.seed": "seed_everything"}


def named_config(args: list[str]) -> str:
    """` (config: PATH)` for a message that does not say where its key stands."""
    path = "".join(arg for before, arg in pairwise(args) if before in ("-c", "--config"))
    return f" (config: {path})" if path else ""


def take_config(args: Sequence[str]) -> list[str]:
    """A config that is named without `--config`, wherever it stands among options with their values, with it and first;
    a run's folder stands for its config.yaml, and a name for the config that comes with revinst.

    >>> take_config(["--model.lr", "1e-3", "configs/quickstart.yaml"])
    ['--config', 'configs/quickstart.yaml', '--model.lr', '1e-3']
    """
    configs: list[str] = []
    options: list[str] = []
    before = ""  # the option that still lacks its value
    for arg in args:
        if arg.startswith("--config="):
            options.append(f"--config={file_of(arg.removeprefix('--config='))}")
        elif before in ("-c", "--config"):
            options.append(file_of(arg))
        elif before or arg.startswith("-"):
            options.append(arg)
        else:
            configs += ["--config", file_of(arg)]
        before = arg if arg.startswith("-") and "=" not in arg and not is_number(arg) else ""
    return configs + options


def is_number(text: str) -> bool:
    with suppress(ValueError):
        return isinstance(float(text), float)
    return False


def file_of(path: str) -> str:
    """Of what a command line names: a file, a run's folder, or a config that comes with revinst."""
    if Path(path).is_dir():
        return str(Run(path).config)
    return path if Path(path).exists() else str(list_shipped().get(path, path))


def config_files(args: list[str]) -> list[str]:
    """What a command line names with --config."""
    files = []
    for name, value in zip_longest(args, args[1:], fillvalue=""):
        if name in ("-c", "--config") and value:
            files.append(value)
        if name.startswith("--config="):
            files.append(name.removeprefix("--config="))
    return files


def find_own_modules(files: Sequence[str]) -> None:
    """Whoever names a class of her own keeps its module in the working folder or beside the config. What is installed
    comes first: a file of hers may have any name.
    """
    for folder in (Path.cwd(), *(Path(path).absolute().parent for path in files)):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def is_stored(path: str) -> bool:
    """Whether a config is a run's own, resolved by the version that wrote it."""
    run = Run(Path(path).parent)
    return Path(path) == run.config and run.manifest.is_file()


def read_config_file(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        hint = "; a key is given as --KEY VALUE" if "=" in path else say_shipped(path)
        raise UserError(f"--config {path}: no such file{hint}")
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise UserError(f"{path}: not a YAML file ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a config must be a mapping of keys")
    return content


def check_keys(path: str, content: dict[str, Any], known: dict[str, Any]) -> None:
    """Refuses keys that are no more, that are no keys or don't exist, and names what to write in their place."""
    if OLD_KEY in flatten(content):
        rows = flatten(take_old_keys(content))["data.rows_per_step"]
        raise UserError(
            f"{path}: {OLD_KEY}: a step's rows are counted over all ranks now; write data.rows_per_step: {rows} in its "
            "place, and data.micro_batch_size: auto"
        )
    written = flatten(content)
    for key, source in TAKEN_FROM.items():
        if key in written:
            raise UserError(f"{path}: {key} is taken from {source}; set that")
    for key in unknown_keys(content, known):
        names = {name for full in flatten(known) for name in accumulate(full.split("."), "{}.{}".format)}
        raise UserError(f"{path}: {key}: no such key{say_nearest_key(key, names)}")


def read_yaml(text: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"the run's config is not YAML any more ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(content, dict):
        raise UserError("the run's config is no mapping of keys any more")
    return content
