"""Options and keys are taken by their whole names; a mistaken one is refused in one line that names the nearest."""

import argparse
import re
from pathlib import Path

import pytest
import yaml

from revinst.cli import COMMANDS, command_of
from revinst.config.keys import flatten, unknown_keys
from revinst.config.parser import build_parser, dump_config, read_config
from revinst.config.stored import default_config
from revinst.errors import UserError
from revinst.options import Parser, find_unknown, say_nearest
from tests.tiny import run_in_process

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "quickstart.yaml"
MISTAKES = {
    "init": ("x", "--bas", "x/y", "base"),
    "fetch": ("quickstart", "--links", "x", "link"),
    "fit": ("--config", CONFIG, "--trainer.max_epoch", 3, "trainer.max_epochs"),
    "plan": (CONFIG, "--memory_gb", 8, "memory_gib"),
    "inspect": (CONFIG, "--data.seq_le=8", "data.seq_len"),
    "evaluate": ("RUN", "--max_new", 3, "max_new_tokens"),
    "generate": ("RUN", "x.txt", "--outptu", "y.jsonl", "output"),  # before it misses --output
    "compare": ("A", "B", "--metrics", "rougeL", "metric"),
    "corpus": ("x", "y", "--redac", "redact"),
    "merge": ("RUN", "OUT", "--drift_row=3", "drift_rows"),
    "publish": ("RUN", "--push_to", "me/x", "push_to_hub"),
    "demo": ("RUN", "--por", 1, "port"),
}


@pytest.mark.parametrize("command", MISTAKES)
def test_every_command_names_the_nearest(command, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    *args, nearest = MISTAKES[command]
    (wrong,) = [str(arg).partition("=")[0] for arg in args if str(arg).startswith("--") and arg != "--config"]
    assert run_in_process(command, *args) == 2
    said = capsys.readouterr().err
    assert said == f"revinst {command}: {wrong}: no such option; did you mean --{nearest}?\n"


def test_a_value_that_can_not_be_is_one_line_too(capsys):
    assert run_in_process("evaluate", "RUN", "--part", "train") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "--part" in said and "heldout" in said


def test_help_names_every_default():
    """Of each option that has one, in its own words or by the formatter."""
    told = 0
    for command in set(COMMANDS) - {"fit"}:  # whose options are a config's keys
        parser = command_of(command).build_options()
        for action in parser._actions:
            default = action.default
            is_one = isinstance(default, int | float | str) and not isinstance(default, bool)
            if is_one and default not in ("", argparse.SUPPRESS):
                assert "default" in parser._get_formatter()._expand_help(action), (command, action.dest)
                told += 1
    assert told >= 39
    corpus = " ".join(command_of("corpus").build_options().format_help().split())
    assert "share of texts that is held out (default: 0.1)" in corpus
    assert "(default: 0) --rounds" in corpus and "False" not in corpus
    assert "(default: 100 of an instruction, 400 of a text)" in corpus


@pytest.fixture(scope="module")
def parser():
    return build_parser()


def test_no_key_can_be_abbreviated(parser):
    """Neither on the command line nor in a file, in no group; the nearest is the key itself in nearly every case."""
    known = default_config()
    keys, told = list(flatten(known)), 0
    assert len(keys) > 80 and not parser.allow_abbrev
    for key in keys:
        short = key[:-1]
        if short in keys or short.endswith("."):
            continue
        assert find_unknown([f"--{short}=1"], parser._option_string_actions).startswith(f"--{short}: no such option")
        assert list(unknown_keys({short: 1}, known)) == [short]
        group, _, name = short.rpartition(".")
        nested = {name: 1}
        for part in reversed(group.split(".") if group else []):
            nested = {part: nested}
        assert list(unknown_keys(nested, known)) == [short]
        told += say_nearest(short, keys) == f"; did you mean {key}?"
    assert told > 0.95 * len(keys) - 5


@pytest.mark.parametrize(
    ("args", "nearest"),
    [
        (["--data.lora", "r"], "--model.lora"),
        (["--model.lora.rr", "3"], "--model.lora.r"),
        (["--seed", "3"], "--seed_everything"),
        (["--lr", "3"], "--model.lr"),
        (["--data.base", "x"], "--model.base"),
        (["--conf", "x.yaml"], "--config"),
        (["--zzz", "3"], None),
    ],
)
def test_near_misses_of_keys(args, nearest):
    with pytest.raises(UserError) as refused:
        read_config(args)
    assert str(refused.value) == f"{args[0]}: no such option" + (f"; did you mean {nearest}?" if nearest else "")


@pytest.mark.parametrize(
    ("content", "wrong", "nearest"),
    [
        ({"trainer": {"max_epoch": 3}}, "trainer.max_epoch", "trainer.max_epochs"),
        ({"data": {"lora": {"r": 3}}}, "data.lora", "model.lora"),
        ({"model": {"lora": {"rr": 3}}}, "model.lora.rr", "model.lora.r"),
        ({"data.sourc": "x"}, "data.sourc", "data.source"),
        ({"checkpoints": {"every_steps": 3}}, "checkpoints", "checkpoint"),
        ({"data": {1: 2}}, "data.1", None),
        ({"config": 3}, "config", None),
    ],
)
def test_near_misses_in_a_file(tmp_path, content, wrong, nearest):
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as refused:
        read_config(["--config", str(path)])
    assert str(refused.value) == f"{path}: {wrong}: no such key" + (f"; did you mean {nearest}?" if nearest else "")


def test_what_has_names_of_its_own_is_taken(tmp_path):
    """A logger's arguments, a column of a table, one more source: nobody can list these."""
    args = ["--data.columns.instruction", "question", "--data.source+", "more.jsonl"]
    args += ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir", str(tmp_path)]
    config = read_config(args)
    assert config.data.columns == {"instruction": "question"} and config.data.source[-1] == "more.jsonl"
    assert config.trainer.logger.init_args.save_dir == str(tmp_path)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    again = read_config(["--config", str(tmp_path / "config.yaml")])
    assert again == config and yaml.safe_load(dump_config(again)) == yaml.safe_load(dump_config(config))


def test_what_follows_is_left_to_others(capsys):
    parser = Parser(prog="bench")
    parser.add_argument("--rows")
    parser.add_argument("--keys", nargs=argparse.REMAINDER, default=[])
    assert parser.parse_args(["--rows", "3", "--keys", "--data.row", "4"]).keys == ["--data.row", "4"]
    options, rest = parser.parse_known_args(["--row", "3"])
    assert options.rows is None and rest == ["--row", "3"]


def test_every_parser_is_of_this_kind():
    """Also those of scripts."""
    sources = {path: path.read_text() for path in (*ROOT.glob("revinst/**/*.py"), *ROOT.glob("scripts/*.py"))}
    made = {path.name: re.findall(r"\bArgumentParser\([^\n]*", text) for path, text in sources.items()}
    assert {name: lines for name, lines in made.items() if lines} == {
        "parser.py": [
            "ArgumentParser("
        ],  # jsonargparse's, of a config; `parser` above holds that it abbreviates nothing
    }
    assert sum("Parser(" in text for text in sources.values()) > 15
