"""`trainer.logger`: what its short names mean, told before anything is imported."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import PurePath

from revinst.config.words import LOGGERS
from revinst.errors import UserError

# Of those that revinst does not bring: the module that is imported, and the extra of pyproject.toml that brings it.
NOT_BROUGHT = {"wandb": "wandb", "mlflow": "mlflow", "comet": "comet_ml"}


def named_loggers(value: object) -> list[str]:
    """The short names in a value of `trainer.logger`; what is of Lightning's classes has none."""
    if value in (None, True):
        return ["tensorboard"]
    values = value if isinstance(value, list) else [value]
    return [name for name in values if isinstance(name, str) and name in LOGGERS]


def check_loggers(value: object) -> None:
    """Raises UserError where a logger that is named is not installed, or is named twice."""
    names = named_loggers(value)
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"trainer.logger {value}: {name} is named twice")
        if (module := NOT_BROUGHT.get(name)) and not is_installed(module):
            raise UserError(f"trainer.logger {name}: not installed; pip install 'revinst[{name}]'")


def is_installed(module: str) -> bool:
    """A folder of that name in the working folder, as W&B leaves them, is no module."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None


def public_config(config: Mapping[str, object]) -> dict[str, object]:
    """A config as hyperparameters: of what has a class its name alone, for its arguments may hold a key; of an absolute
    path what it ends with.

    >>> public_config({"model": {"base": "/home/me/llama"}, "trainer": {"callbacks": [{"class_path": "Mine"}]}})
    {'model': {'base': 'llama'}, 'trainer': {'callbacks': ['Mine']}}
    """
    return {key: make_public(value) for key, value in config.items()}


def make_public(value: object) -> object:
    if isinstance(value, dict):
        return value["class_path"] if "class_path" in value else public_config(value)
    if isinstance(value, list):
        return [make_public(each) for each in value]
    if isinstance(value, str) and (value.startswith("~") or PurePath(value).is_absolute()):
        return PurePath(value).name
    return value
