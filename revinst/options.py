"""Options are taken by their whole names; one that is not there is refused in one line that names the nearest."""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from revinst.errors import UserError

LEAST_LIKENESS = 0.6  # difflib's own cutoff
RENAMED = {"--candidates": "--samples"}


class HelpWithDefaults(argparse.HelpFormatter):
    """Names the default of each option that has one, where its line does not do so itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default, text = action.default, action.help or ""
        has_one = isinstance(default, int | float | str) and not isinstance(default, bool) and default != ""
        if not has_one or default == argparse.SUPPRESS or "default" in text:
            return action.help
        return f"{text} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """argparse's, which would take `--max_new` for `--max_new_tokens`, and print its usage before each mistake.

    What it returns also has `command`: the command line, for reports.
    """

    def __init__(self, **options: Any):
        options.setdefault("formatter_class", HelpWithDefaults)
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]  # argparse: any object
        args = sys.argv[1:] if args is None else list(args)
        actions = self._option_string_actions
        takes_rest = {name for name, action in actions.items() if action.nargs == argparse.REMAINDER}
        # before argparse misses what is required
        if wrong := find_unknown(takewhile(lambda arg: arg not in takes_rest, args), actions):
            self.error(wrong)
        options = super().parse_args(args, namespace)
        options.command = shlex.join([*self.prog.split(), *args])
        return options

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")


def find_unknown(
    args: Iterable[str],
    known: Iterable[str],
    open_ended: Sequence[str] = (),
    say: Callable[[str, Iterable[str]], str] | None = None,
) -> str:
    """Of a command line: `--NAME: no such option ...` for the first option that is not known, or "".

    open_ended: beginnings of names that nobody can list, as `--trainer.logger.` with a logger's own arguments.
    say: what was meant, `say_nearest` or another's word.
    """
    known = set(known)
    for arg in args:
        name = arg.partition("=")[0].removesuffix("+")  # jsonargparse's `--KEY+ VALUE` adds to a list
        if arg == "--":
            break
        if name.startswith("--") and " " not in name and name not in known and not name.startswith(tuple(open_ended)):
            return f"{name}: no such option{(say or say_nearest)(name, known)}"
    return ""


def check_file(name: str | Path | None, option: str = "") -> None:
    """Raises UserError where what an option or an argument names is not there. name: None: it was not given."""
    if name is not None and not Path(name).expanduser().exists():
        raise UserError(f"{option} {name}: no such file or folder".lstrip())


def say_nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean NAME?`, or "" where nothing is like it. Of `group.key` the key decides, and then the whole."""
    known = set(known)
    if RENAMED.get(name) in known:
        return f"; it is {RENAMED[name]} now"

    def likeness(other: str) -> tuple[float, float]:
        (group, key), (other_group, other_key) = (split_name(each) for each in (name, other))
        begins = len(key) > 2 and other_key.startswith(key)
        return max(ratio(key, other_key), 0.9 * begins), ratio(group + key, other_group + other_key)

    nearest = max(sorted(known), key=likeness, default="")
    return f"; did you mean {nearest}?" if nearest and likeness(nearest)[0] >= LEAST_LIKENESS else ""


def split_name(name: str) -> tuple[str, str]:
    """`--model.lora.r` -> `model.lora`, `r`"""
    group, _, key = name.lstrip("-").rpartition(".")
    return group, key


def ratio(a: str, b: str) -> float:
    return SequenceMatcher(None, a, b).ratio()
