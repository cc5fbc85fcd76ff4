"""`revinst fit --help`: on one screen the keys that are set most, with their defaults, and the names of the rest."""

import json
from textwrap import shorten, wrap

from revinst.config.keys import flatten
from revinst.config.parser import build_parser, defaults_of
from revinst.config.values import words_of

WIDTH = 118
MOST_USED = (
    "run_name",
    "resume",
    "model.base",
    "model.quantization",
    "model.lora.r",
    "model.lora.target_modules",
    "model.lr",
    "model.lr_schedule",
    "model.optimizer",
    "model.activation_memory_gib",
    "data.source",
    "data.template",
    "data.context",
    "data.seq_len",
    "data.rows_per_step",
    "data.micro_batch_size",
    "checkpoint.every_steps",
    "samples.every_steps",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.devices",
    "trainer.precision",
    "trainer.logger",
)
HEAD = """usage: revinst fit CONFIG [--KEY VALUE ...]

Trains an adapter into runs/RUN_NAME, or goes on where the run stopped. CONFIG is a YAML file, a run folder, or the
name of one that comes with revinst; keys given beside it have the last word:
revinst fit quickstart --run_name slower --model.lr 5e-4

Keys, each with its default:
"""
FOOT = "\n\nEach with its line, and Lightning's trainer.* too: revinst fit --help_all"


def write_help() -> str:
    parser = build_parser()
    defaults = flatten(defaults_of(parser))
    said = {action.dest: str(action.help) for action in parser._actions}
    lines = [describe(key, defaults[key], said[key]) for key in MOST_USED]
    rest = ", ".join(key for key in defaults if key not in MOST_USED and not key.startswith("trainer."))
    also = wrap(f"also: {rest}", WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return HEAD + "\n".join([*lines, *also]) + FOOT


def describe(key: str, default: object, said: str) -> str:
    """`  --model.lr 0.0002               peak learning rate`; the words of a key that takes no others."""
    value = default if isinstance(default, str) else json.dumps(default)
    text = ", ".join(words_of(key)) or " ".join(said.split()).rstrip(".")
    return f"  --{key} {value}".ljust(56) + shorten(text, WIDTH - 56, placeholder=" ...")
