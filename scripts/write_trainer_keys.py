"""Writes revinst/config/trainer_keys.py: the keys of Lightning's Trainer, as its signature and its docstring say them.

    python scripts/write_trainer_keys.py

To be run when Lightning is upgraded; a test holds the file equal to the installed version's.
"""

import inspect
import re
from pathlib import Path
from types import NoneType
from typing import Literal, Union, get_args, get_origin, get_type_hints

import lightning as L
from docstring_parser import parse

FILE = Path(__file__).resolve().parents[1] / "revinst" / "config" / "trainer_keys.py"
PLAIN = {int: "int", float: "float", bool: "bool", str: "str", NoneType: "None", list[int]: "list[int]"}
HEAD = '''"""The keys of Lightning's Trainer, written by scripts/write_trainer_keys.py.

Importing Lightning takes seconds, and a mistake shall not wait for it.
"""
# ruff: noqa: E501
# fmt: off

from dataclasses import dataclass
from typing import Any, Literal

Made = Any  # of Lightning's classes, by a class_path


@dataclass(frozen=True, kw_only=True)
class TrainerKeys:
    """Lightning's Trainer."""
'''


def main() -> None:
    FILE.write_text(write_keys(), encoding="utf-8", newline="\n")


def write_keys() -> str:
    """The whole file."""
    hints = get_type_hints(L.Trainer.__init__)
    said = {each.arg_name: each.description or "" for each in parse(L.Trainer.__init__.__doc__ or "").params}
    lines = [HEAD]
    for name, parameter in list(inspect.signature(L.Trainer.__init__).parameters.items())[1:]:
        lines.append(f"    {name}: {spell(hints[name])} = {parameter.default!r}".replace("'", '"'))
        lines.append(f'    """{first_sentence(said.get(name, ""))}"""')
    return "\n".join(lines) + "\n"


def spell(hint: object) -> str:
    """A type as source; what is not plain becomes `Made`."""
    options = get_args(hint) if get_origin(hint) is Union else [hint]
    spelt = [str(each).removeprefix("typing.") if get_origin(each) is Literal else name_of(each) for each in options]
    return " | ".join(dict.fromkeys(spelt))


def name_of(hint: object) -> str:
    return next((name for plain, name in PLAIN.items() if hint == plain), "Made")


def first_sentence(text: str) -> str:
    """Without the markup of Lightning's documentation: ":class:`~lightning.Logger`" -> `Logger`."""
    plain = re.sub(r":\w+:`~?[\w.]*?(\w+)`", r"\1", text).replace("``", "")
    return re.split(r"(?<=\.)\s|\n\n|\.\n", " ".join(plain.split()), maxsplit=1)[0].rstrip(".") + "."


if __name__ == "__main__":
    main()
