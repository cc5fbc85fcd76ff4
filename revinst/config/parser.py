"""The parser of a config: our settings and Lightning's Trainer, as a YAML file and as options."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from typing import Any, Literal, get_args, get_type_hints

import yaml
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from revinst.config.elsewhere import say_nearest_key
from revinst.config.file import (
    check_keys,
    config_files,
    find_own_modules,
    is_stored,
    named_config,
    read_config_file,
    take_config,
)
from revinst.config.keys import OLD_KEY, as_before, flatten
from revinst.config.settings import (
    CheckpointSettings,
    Config,
    DataSettings,
    LaunchSettings,
    ModelSettings,
    SampleSettings,
    ValGenerationSettings,
)
from revinst.config.trainer_flags import TRAINER_DEFAULTS
from revinst.config.trainer_keys import TrainerKeys
from revinst.config.values import GROUPS, explain, say_what_it_takes
from revinst.config.words import LOGGERS
from revinst.errors import UserError
from revinst.options import find_unknown

LOGGER_HELP = (
    "tensorboard (null and true mean it), csv (metrics.csv alone, which every run has, as with false), wandb, mlflow, "
    "comet, a list of these, or a class of Lightning's"
)
# Keys whose values may be of Lightning's classes, and those that have words besides.
OF_CLASSES = ("logger", "callbacks", "plugins", "accelerator", "strategy", "profiler")
WITH_WORDS = OF_CLASSES[3:]
EXAMPLES = {
    "logger": "or a class of Lightning's, as WandbLogger",
    "callbacks": "as [EarlyStopping]",
    "plugins": "as [SLURMEnvironment]",
}


def build_parser(trainer: type = TrainerKeys) -> ArgumentParser:
    """trainer: whose arguments `trainer.*` are: the table of them, or `lightning.Trainer`, which knows its classes."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # each field's line in --help
    parser = ArgumentParser(
        prog="revinst fit",
        description="Train an adapter.",
        exit_on_error=False,
        allow_abbrev=False,
        dump_header=[f"lightning.pytorch=={version('lightning')}"],
    )
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="path of a config file in YAML")
    parser.add_class_arguments(Config, as_group=False, skip={*GROUPS})
    options = {"fail_untyped": False, "instantiate": False, "sub_configs": True, "skip": {"logger"}}
    parser.add_class_arguments(trainer, "trainer", **options)
    parser.add_argument("--trainer.logger", type=logger_type(trainer), default=None, help=LOGGER_HELP)
    parser.set_defaults(TRAINER_DEFAULTS)
    parser.add_class_arguments(ModelSettings, "model", sub_configs=True)
    parser.add_class_arguments(DataSettings, "data", sub_configs=True)
    parser.add_class_arguments(CheckpointSettings, "checkpoint")
    parser.add_class_arguments(SampleSettings, "samples")
    parser.add_class_arguments(ValGenerationSettings, "val_generation")
    parser.add_class_arguments(LaunchSettings, "launch")
    return parser


def logger_type(trainer: type) -> Any:
    """Of `trainer.logger`: Lightning's classes, and our names for them. trainer: as `build_parser` takes it."""
    if trainer is TrainerKeys:
        return get_type_hints(TrainerKeys)["logger"]
    from lightning.pytorch.loggers import Logger

    one = Logger | Literal[LOGGERS]  # type: ignore[valid-type]  # the table is the one place that lists them
    return one | list[one] | bool | None


def read_config(args: list[str], own: Sequence[str] = ()) -> Config:
    """The config of a command line: files, then options over them. Makes no class of the Trainer's, and imports
    Lightning only where one is named, and everything else is right.

    own: options that a command has taken off `args`; a mistaken one may be meant for one of them.
    """
    args = take_config(args)
    try:
        of_classes = tuple(f"--trainer.{key}{sign}" for key in OF_CLASSES for sign in ".+")
        if not any(arg.startswith(of_classes) for arg in args):
            parser = build_parser()
            config = make_settings(parser, parse(parser, args, own))
            if not any(names_a_class(key, config.trainer[key]) for key in OF_CLASSES):
                return config
        import lightning as L

        find_own_modules(config_files(args))
        parser = build_parser(L.Trainer)
        return make_settings(parser, parse(parser, args, own))
    except ArgumentError as error:
        raise UserError(explain(str(error)) + named_config(args)) from None


def names_a_class(key: str, value: object) -> bool:
    """`CSVLogger`, `{class_path: ...}` or a list of these, and not `auto`. Raises UserError for another word."""
    if key == "logger" and isinstance(value, list):
        return any([names_a_class(key, each) for each in value])  # all are looked at: one may be mistaken
    if not isinstance(value, str) or not value.islower() or "." in value:
        return not isinstance(value, bool | None)
    if key not in WITH_WORDS and not (key == "logger" and value in LOGGERS):
        raise UserError(f"trainer.{key} {value!r}: {say_what_it_takes(f'trainer.{key}')}, {EXAMPLES[key]}")
    return False


def parse(parser: ArgumentParser, args: list[str], own: Sequence[str]) -> Namespace:
    if any(arg.partition("=")[0] == f"--{OLD_KEY}" for arg in args):
        raise UserError(f"--{OLD_KEY}: give --data.rows_per_step, the rows of a step over all ranks, in its place")
    known, files = defaults_of(parser), config_files(args)
    options = {*parser._option_string_actions, *own}
    if wrong := find_unknown(args, options, [f"--{key}." for key in flatten(known)], say_nearest_key):
        raise UserError(wrong)
    for path in files:
        check_keys(path, read_config_file(path), known)
    return parser.parse_args([*as_before(), *args] if any(map(is_stored, files)) else args)


def make_settings(parser: ArgumentParser, parsed: Namespace) -> Config:
    parsed.pop("config", None)
    check_groups(parsed)
    trainer = parsed.pop("trainer")
    return Config(trainer=trainer, **vars(parser.instantiate_classes(parsed)))


def check_groups(config: Namespace) -> None:
    """Refuses what jsonargparse lets pass: a group that is no mapping, and null where a value must be."""
    for name, made in GROUPS.items():
        group, hints = config.get(name), get_type_hints(made)
        if not isinstance(group, Namespace) or hints.keys() - {"return", *vars(group)}:  # options over no mapping: some
            found = "" if isinstance(group, Namespace) else f" {group!r}"
            raise UserError(f"{name}{found}: give its keys, as in `{name}: {{KEY: VALUE}}`, or leave it out")
        check_nulls(group, hints, f"{name}.")
    check_nulls(config, get_type_hints(Config.__init__))


def check_nulls(group: Namespace, hints: dict[str, Any], prefix: str = "") -> None:
    for key, value in vars(group).items():
        if value is None and type(None) not in get_args(hints.get(key, Any)):
            raise UserError(f"{prefix}{key} is null; give a value, or leave the key out for its default")


def dump_config(config: Config) -> str:
    """The whole config as YAML, resolved; `revinst fit --config` reads it back."""
    return build_parser().dump(as_namespace(config), skip_none=False, skip_validation=True)


def as_namespace(settings: Any) -> Namespace:
    values = {each.name: getattr(settings, each.name) for each in fields(settings)}
    return Namespace(**{name: as_namespace(value) if is_dataclass(value) else value for name, value in values.items()})


def defaults_of(parser: ArgumentParser) -> dict[str, Any]:
    """Every key with its default, nested."""
    defaults = parser.get_defaults()
    defaults.pop("config", None)
    return yaml.safe_load(parser.dump(defaults, skip_none=False, skip_validation=True))
