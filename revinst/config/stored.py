"""The config of a run, as the version that trained it wrote it; in the keys of this one."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from revinst.config.file import config_files, is_stored, read_config_file, take_config
from revinst.config.keys import as_before, flatten, leave_out, take_old_keys, unknown_keys
from revinst.config.parser import dump_config, read_config
from revinst.config.settings import Config
from revinst.config.shipped import say_shipped
from revinst.errors import UserError
from revinst.launch.ranks import is_first_process
from revinst.runs.folder import Run

CALLBACKS = "trainer.callbacks"  # of training alone


def open_config(args: list[str], own: Sequence[str]) -> Config:
    """Of `plan` and `inspect`: a config and overrides. A run's own config may be of another version."""
    args = take_config(args)
    if "--config" not in args:
        raise UserError(f"give a config file or a run folder first{say_shipped()}")
    if args[:1] == ["--config"] and is_stored(args[1]):
        path = Path(args[1])
        return read_run_config(path, Run(path.parent).read_manifest().get("world_size"), args[2:], own)
    return read_config(args, own)


def read_run_config(
    path: Path, world_size: int | None = None, overrides: Sequence[str] = (), own: Sequence[str] = ()
) -> Config:
    """The config of a run, parsed as `fit` would; nothing is loaded. What this version has no key for is left aside,
    with a line that names it, and so are callbacks, whose modules may be gone. world_size: the run's, for old keys.
    """
    content = read_config_file(str(path))
    taken = take_old_keys(content, world_size)
    if unknown := list(unknown_keys(taken, default_config())):
        if is_first_process():
            print(f"{path}: left aside, this version has no such key: {', '.join(unknown)}", file=sys.stderr)
        taken = leave_out(taken, unknown)
    if any(value and key.startswith(CALLBACKS) for key, value in flatten(taken).items()):
        taken = leave_out(taken, [CALLBACKS])
    if taken == content:
        return read_config([*as_before(), "--config", str(path), *overrides], own)
    with tempfile.TemporaryDirectory() as folder:
        translated = Path(folder) / path.name
        translated.write_text(yaml.safe_dump(taken), encoding="utf-8", newline="\n")
        return read_config([*as_before(), "--config", str(translated), *overrides], own)


def check_own_folder(config: Config, args: list[str]) -> None:
    """Raises UserError for the config of a run that was copied or moved: it names the folder that the run had, and to
    go on there, or to begin anew there, is not what was asked for.
    """
    if {"--run_name", "--runs_dir"} & {arg.partition("=")[0] for arg in args}:
        return
    named = Path(config.runs_dir) / config.run_name
    for path in filter(is_stored, config_files(take_config(args))):
        folder = Path(path).absolute().parent
        if named.resolve() != folder.resolve():
            raise UserError(
                f"{path}: the config of a run that was copied or moved, it names {named}; to go on in its folder: "
                f"--runs_dir {quote(str(folder.parent))} --run_name {quote(folder.name)}; to train anew: --run_name NEW"
            )


def default_config() -> dict[str, Any]:
    """What a stored config without any key means; it has every key of this version."""
    return yaml.safe_load(dump_config(read_config(as_before())))
