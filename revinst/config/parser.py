"""The parser of a config: our settings and Lightning's Trainer, as a YAML file and as options."""

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import lightning as L
import yaml
from jsonargparse import ActionConfigFile, ArgumentError, Namespace, set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser

from revinst.config.file import check_keys, config_files, is_stored, named_config, read_config_file
from revinst.config.keys import OLD_KEY, as_before, flatten
from revinst.config.settings import (
    CheckpointSettings,
    Config,
    DataSettings,
    LaunchSettings,
    LoraSettings,
    ModelSettings,
    SampleSettings,
)
from revinst.errors import UserError
from revinst.options import find_unknown

GROUPS: dict[str, Any] = {
    "trainer": L.Trainer,
    "model": ModelSettings,
    "model.lora": LoraSettings,
    "data": DataSettings,
    "checkpoint": CheckpointSettings,
    "samples": SampleSettings,
    "launch": LaunchSettings,
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
    parser.add_class_arguments(LaunchSettings, "launch")
    return parser


def read_config(args: list[str], own: Sequence[str] = ()) -> Config:
    """The config of a command line: files, then options over them. Loads nothing and makes no class of the Trainer's.

    own: options that a command has taken off `args`; a mistaken one may be meant for one of them.
    """
    parser = build_parser()
    try:
        return make_settings(parser, parse(parser, args, own))
    except ArgumentError as error:
        raise UserError(one_line(error) + named_config(args)) from None


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
    parsed.pop("config", None)
    check_groups(parsed)
    trainer = parsed.pop("trainer")
    return Config(trainer=trainer, **vars(parser.instantiate_classes(parsed)))


def check_groups(config: Namespace) -> None:
    """Refuses what jsonargparse lets pass: a group that is no mapping, and null where a value must be."""
    for name, made in GROUPS.items():
        group, hints = config.get(name), get_type_hints(made.__init__)
        if not isinstance(group, Namespace) or hints.keys() - {"return", *vars(group)}:  # options over no mapping: some
            found = "" if isinstance(group, Namespace) else f" {group!r}"
            raise UserError(f"{name}{found}: give its keys, as in `{name}: {{KEY: VALUE}}`, or leave it out")
        check_nulls(group, hints, f"{name}.")
    check_nulls(config, get_type_hints(Config.__init__))


def check_nulls(group: Namespace, hints: dict[str, Any], prefix: str = "") -> None:
    for key, value in vars(group).items():
        if value is None and type(None) not in get_args(hints.get(key, Any)):
            raise UserError(f"{prefix}{key} is null; give a value, or leave the key out for its default")


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


def defaults_of(parser: LightningArgumentParser) -> dict[str, Any]:
    """Every key with its default, nested."""
    defaults = parser.get_defaults()
    defaults.pop("config", None)
    return yaml.safe_load(parser.dump(defaults, skip_none=False, skip_validation=True))
