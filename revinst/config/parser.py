"""The parser of a config: our settings and Lightning's Trainer, as a YAML file and as options."""

import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import lightning as L
import yaml
from jsonargparse import ActionConfigFile, ArgumentError, Namespace, set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser

from revinst.config.file import check_keys, config_files, is_stored, named_config, read_config_file
from revinst.config.keys import OLD_KEY, as_before, flatten, leave_out, take_old_keys, unknown_keys
from revinst.config.settings import (
    CheckpointSettings,
    Config,
    DataSettings,
    LoraSettings,
    ModelSettings,
    SampleSettings,
)
from revinst.errors import UserError
from revinst.launch.ranks import is_first_process
from revinst.options import find_unknown
from revinst.runs.folder import Run

GROUPS = {
    "trainer": L.Trainer,
    "model": ModelSettings,
    "model.lora": LoraSettings,
    "data": DataSettings,
    "checkpoint": CheckpointSettings,
    "samples": SampleSettings,
}
TRAINER_DEFAULTS = {
    "trainer.enable_checkpointing": False,
    "trainer.enable_model_summary": False,
    "trainer.use_distributed_sampler": False,
    "trainer.num_sanity_val_steps": 0,
}


def build_parser() -> LightningArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # each field's line in --help
    parser = LightningArgumentParser(
        prog="revinst fit",
        description="Train an adapter.",
        exit_on_error=False,
        allow_abbrev=False,
        dump_header=[f"lightning.pytorch=={L.__version__}"],
    )
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="path of a config file in YAML")
    parser.add_class_arguments(Config, as_group=False, skip={*GROUPS})
    parser.add_lightning_class_args(L.Trainer, "trainer")
    parser.set_defaults(TRAINER_DEFAULTS)
    parser.add_class_arguments(ModelSettings, "model", sub_configs=True)
    parser.add_class_arguments(DataSettings, "data", sub_configs=True)
    parser.add_class_arguments(CheckpointSettings, "checkpoint")
    parser.add_class_arguments(SampleSettings, "samples")
    return parser


def read_config(args: list[str], own: Sequence[str] = ()) -> Config:
    """The config of a command line: files, then options over them. Loads nothing and makes no class of the Trainer's.

    own: options that a command has taken off `args`; a mistaken one may be meant for one of them.
    """
    parser = build_parser()
    try:
        return make_settings(parser, parse(parser, args, own))
    except ArgumentError as error:
        raise find_user_error(error) or UserError(one_line(error) + named_config(args)) from None


def parse(parser: LightningArgumentParser, args: list[str], own: Sequence[str]) -> Namespace:
    if any(arg.partition("=")[0] == f"--{OLD_KEY}" for arg in args):
        raise UserError(f"--{OLD_KEY}: give --data.rows_per_step, the rows of a step over all ranks, in its place")
    known, files = defaults_of(parser), config_files(args)
    if wrong := find_unknown(args, {*parser._option_string_actions, *own}, [f"--{key}." for key in flatten(known)]):
        raise UserError(wrong)
    for path in files:
        check_keys(path, read_config_file(path), known)
    return parser.parse_args([*as_before(), *args] if any(map(is_stored, files)) else args)


def make_settings(parser: LightningArgumentParser, parsed: Namespace) -> Config:
    check_groups(parsed)
    trainer = parsed.pop("trainer")
    parsed.pop("config", None)
    return Config(trainer=trainer, **vars(parser.instantiate_classes(parsed)))


def check_groups(config: Namespace) -> None:
    """Refuses what jsonargparse lets pass: a group that is no mapping, and null where a value must be."""
    for name, made in GROUPS.items():
        group = config.get(name)
        if not isinstance(group, Namespace):
            raise UserError(f"{name} {group!r}: give its keys, as in `{name}: {{KEY: VALUE}}`, or leave it out")
        check_nulls(made, group, f"{name}.")
    check_nulls(Config, config)


def check_nulls(made: type, group: Namespace, prefix: str = "") -> None:
    hints = get_type_hints(made.__init__)  # type: ignore[misc]
    for key, value in vars(group).items():
        if value is None and key in hints and type(None) not in get_args(hints[key]):
            raise UserError(f"{prefix}{key} is null; give a value, or leave the key out for its default")


def find_user_error(error: BaseException | None) -> UserError | None:
    while error is not None:
        if isinstance(error, UserError):
            return error
        error = error.__cause__ or error.__context__
    return None


def one_line(error: BaseException) -> str:
    """jsonargparse's message without its pages of usage: the key and the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:3])
    return re.sub(r"\s+", " ", text)[:400]


def dump_config(config: Config) -> str:
    """The whole config as YAML, resolved; `revinst fit --config` reads it back."""
    return build_parser().dump(as_namespace(config), skip_none=False, skip_validation=True)


def as_namespace(settings: Any) -> Namespace:
    values = {each.name: getattr(settings, each.name) for each in fields(settings)}
    return Namespace(**{name: as_namespace(value) if is_dataclass(value) else value for name, value in values.items()})


def open_config(args: list[str], own: Sequence[str]) -> Config:
    """Of `plan` and `inspect`: a config and overrides. A run's own config may be of another version."""
    if is_stored(args[0]):
        world_size = Run(Path(args[0]).parent).read_manifest().get("world_size")
        return read_run_config(Path(args[0]), world_size, args[1:], own)
    return read_config(["--config", *args], own)


def read_run_config(
    path: Path, world_size: int | None = None, overrides: Sequence[str] = (), own: Sequence[str] = ()
) -> Config:
    """The config of a run, parsed as `fit` would; nothing is loaded. What this version has no key for is left aside,
    with a line that names it. world_size: the run's, for old keys.
    """
    content = read_config_file(str(path))
    taken = take_old_keys(content, world_size)
    if unknown := list(unknown_keys(taken, default_config())):
        if is_first_process():
            print(f"{path}: left aside, this version has no such key: {', '.join(unknown)}", file=sys.stderr)
        taken = leave_out(taken, unknown)
    if taken == content:
        return read_config([*as_before(), "--config", str(path), *overrides], own)
    with tempfile.TemporaryDirectory() as folder:
        translated = Path(folder) / path.name
        translated.write_text(yaml.safe_dump(taken), encoding="utf-8", newline="\n")
        return read_config([*as_before(), "--config", str(translated), *overrides], own)


def default_config() -> dict[str, Any]:
    """What a stored config without any key means; it has every key of this version."""
    return yaml.safe_load(dump_config(read_config(as_before())))


def defaults_of(parser: LightningArgumentParser) -> dict[str, Any]:
    """Every key with its default, nested."""
    defaults = parser.get_defaults()
    defaults.pop("config", None)
    return yaml.safe_load(parser.dump(defaults, skip_none=False, skip_validation=True))
