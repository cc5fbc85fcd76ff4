"""Keys of configs, and what older versions meant by theirs."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

OLD_KEY = "data.micro_batches_per_step"
# Of keys that were added since, what was done before them, where that is not their default. A stored config without a
# key means this, or else the default.
AS_BEFORE: dict[str, Any] = {}


def as_before() -> list[str]:
    """For the beginning of a command line: a config file that comes later has the last word."""
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in AS_BEFORE.items()]


def take_old_keys(content: dict[str, Any], world_size: int | None = None) -> dict[str, Any]:
    """A config with what keys of older versions meant: rows_per_step was micro_batch_size x micro_batches_per_step x
    ranks. world_size: None: what the config's devices are, where they are a number.
    """
    data = content.get("data")
    if not isinstance(data, dict) or "micro_batches_per_step" not in data:
        return content
    data = dict(data)
    trainer = content.get("trainer") or {}
    if world_size is None:
        devices = str(trainer.get("devices") or 1)
        world_size = int(devices if devices.isdigit() else 1) * (trainer.get("num_nodes") or 1)
    data["rows_per_step"] = data.get("micro_batch_size", 6) * data.pop("micro_batches_per_step") * world_size
    return content | {"data": data}


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`"""
    if not isinstance(config, dict):
        return {prefix.rstrip("."): config}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.")
    return flat


def unknown_keys(content: dict[Any, Any], known: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Of a config, without what lies below a key with values of its own (columns, a logger). known: with all keys."""
    names = flatten(known)
    for key, value in content.items():
        name = f"{prefix}{key}"
        is_group = any(other.startswith(f"{name}.") for other in names)
        if is_group and isinstance(value, dict):
            yield from unknown_keys(value, known, f"{name}.")
        elif not is_group and not any(name == other or name.startswith(f"{other}.") for other in names):
            yield name


def leave_out(content: dict[str, Any], names: Sequence[str], prefix: str = "") -> dict[str, Any]:
    return {
        key: leave_out(value, names, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in content.items()
        if f"{prefix}{key}" not in names
    }


def lay_over(defaults: Any, given: Any) -> Any:
    """`{"a": {"b": 1, "c": 2}}` under `{"a": {"c": 3}}` -> `{"a": {"b": 1, "c": 3}}`"""
    if not (isinstance(defaults, dict) and isinstance(given, dict)):
        return given
    return defaults | {key: lay_over(defaults.get(key), value) for key, value in given.items()}
