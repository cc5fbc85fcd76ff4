"""A config file and its overrides, parsed and checked by LightningCLI."""

import re
import sys
import tempfile
from collections.abc import Sequence
from itertools import accumulate, pairwise, zip_longest
from pathlib import Path
from typing import Any, get_args, get_type_hints

import lightning as L
import torch
import yaml
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from revinst.config.keys import OLD_KEY, as_before, flatten, lay_over, leave_out, take_old_keys, unknown_keys
from revinst.config.settings import CheckpointSettings
from revinst.data.datamodule import InstructionDataModule
from revinst.errors import UserError
from revinst.launch.ranks import is_first_process
from revinst.model.hardware import check_precision
from revinst.options import find_unknown, say_nearest
from revinst.runs.folder import Run
from revinst.training.module import InstructionModule
from revinst.training.samples import Samples
from revinst.training.strategies import check_strategy

# Linked from another key, so that one value can't be written twice.
LINKS = {"model.base": "data.base", "seed_everything": "data.seed"}
GROUPS: dict[str, Any] = {
    "data": InstructionDataModule,
    "model": InstructionModule,
    "trainer": L.Trainer,
    "checkpoint": CheckpointSettings,
    "samples": None,
}
REPLACED_FLAGS = {
    "accumulate_grad_batches": (1, "data.rows_per_step and data.micro_batch_size"),
    "gradient_clip_val": (None, "model.max_grad_norm"),
    "use_distributed_sampler": (False, "data.rows_per_step (the ranks share them)"),
    "enable_checkpointing": (False, "checkpoint.*"),
    "fast_dev_run": (False, "trainer.max_steps"),
    "min_steps": (None, "trainer.max_steps"),
    "min_epochs": (None, "trainer.max_epochs"),
    "max_time": (None, "a signal: SIGTERM saves a checkpoint and stops"),
}
# A resumed run may change these: they don't change what a step computes.
FREE_ON_RESUME = re.compile(
    r"(run_name|runs_dir|resume|resume_force|checkpoint\..*|samples\..*|config|data\.micro_batch_size|"
    r"model\.activation_memory_gib|"
    r"trainer\.(max_epochs|max_steps|precision|devices|num_nodes|strategy|logger|log_every_n_steps|enable_progress_bar|enable_model_summary|profiler|default_root_dir)(\..*)?)"
)
# Of a logger or callback whose package is not installed, among the types that jsonargparse tried in vain.
CLASS_PROBLEM = re.compile(r"Problem with given class_path '(.*?)':\s*(.*)")


class RevinstCLI(LightningCLI):
    """LightningCLI with our groups. `train=False` only parses: no model, no Trainer.

    own: options that a command has taken off `args`; a mistaken one may be meant for one of them.
    """

    def __init__(self, args: list[str], train: bool = True, own: Sequence[str] = ()):
        self.train, self.own = train, own
        try:
            super().__init__(
                InstructionModule,
                InstructionDataModule,
                save_config_callback=None,
                seed_everything_default=42,
                parser_kwargs={
                    "exit_on_error": False,
                    "allow_abbrev": False,
                    "prog": "revinst fit",
                    "description": "Train an adapter.",
                },
                trainer_defaults={
                    "enable_checkpointing": False,
                    "enable_model_summary": False,
                    "use_distributed_sampler": False,
                    "num_sanity_val_steps": 0,
                },
                args=args,
                run=False,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )
        except ArgumentError as error:
            raise find_user_error(error) or UserError(one_line(error) + named_config(args)) from None

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        if any(arg.partition("=")[0] == f"--{OLD_KEY}" for arg in args):
            raise UserError(f"--{OLD_KEY}: give --data.rows_per_step, the rows of a step over all ranks, in its place")
        known, files = defaults_of(parser), config_files(args)
        options = parser._option_string_actions.keys() - {f"--{target}" for target in LINKS.values()}
        if wrong := find_unknown(args, {*options, *self.own}, [f"--{key}." for key in flatten(known)]):
            raise UserError(wrong)
        for path in files:
            check_keys(path, read_config_file(path), known)
        self.config = parser.parse_args([*as_before(), *args] if any(map(is_stored, files)) else args)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run_name", type=str, default="run", help="the run's folder is RUNS_DIR/RUN_NAME")
        parser.add_argument("--runs_dir", type=str, default="runs")
        parser.add_argument("--resume", type=str, default="auto", help="auto, never, or the path of a checkpoint")
        parser.add_argument("--resume_force", type=bool, default=False, help="resume although the config changed")
        parser.add_class_arguments(CheckpointSettings, "checkpoint")
        parser.add_argument("--samples.every_steps", type=int, default=200, help="0: none")
        parser.add_argument("--samples.count", type=int, default=3)
        for source, target in LINKS.items():
            parser.link_arguments(source, target)

    def instantiate_classes(self) -> None:
        check_groups(self.config)
        check_trainer_flags(self.config.trainer)
        Samples(self.config.samples.every_steps, self.config.samples.count)
        if self.train:
            try:
                self.config_init = self.parser.instantiate_classes(self.config)
            except ValueError as error:
                if problem := CLASS_PROBLEM.search(str(error)):
                    raise UserError("{}: {}".format(*problem.groups())) from error
                raise
            self.datamodule, self.model = self.config_init.data, self.config_init.model

    def _set_seed(self) -> None:
        if self.train:
            super()._set_seed()

    @property
    def as_yaml(self) -> str:
        """The whole config, resolved; `revinst fit --config` reads it back."""
        config = self.config.clone()
        config.pop("config", None)
        return self.parser.dump(config, skip_none=False, skip_validation=True)

    def data_arguments(self) -> dict[str, Any]:
        """Arguments of InstructionDataModule, links included."""
        return self.config.data.as_dict() | {
            "base": self.config.model.base,
            "seed": self.config.seed_everything,
        }


def check_groups(config: Namespace) -> None:
    """Refuses what jsonargparse lets pass: a group that is no mapping, and null where a value must be."""
    for name, made in GROUPS.items():
        group = config.get(name)
        if not isinstance(group, Namespace):
            raise UserError(f"{name} {group!r}: give its keys, as in `{name}: {{KEY: VALUE}}`, or leave it out")
        hints = get_type_hints(made.__init__) if made else {}
        for key, value in vars(group).items():
            if value is None and type(None) not in get_args(hints.get(key, int)):
                raise UserError(f"{name}.{key} is null; give a value, or leave the key out for its default")
    for key in ("run_name", "runs_dir", "resume", "resume_force", "seed_everything"):
        if config.get(key) is None:
            raise UserError(f"{key} is null; give a value, or leave the key out for its default")
    folder = Path(config.run_name)
    if folder.is_absolute() or not folder.parts or ".." in folder.parts:
        raise UserError(f"run_name {config.run_name!r}: give a name of a folder in runs_dir")


def named_config(args: list[str]) -> str:
    """` (config: PATH)` for a message that does not say where its key stands."""
    path = "".join(arg for before, arg in pairwise(args) if before in ("-c", "--config"))
    return f" (config: {path})" if path else ""


def config_files(args: list[str]) -> list[str]:
    """What a command line names with --config."""
    files = []
    for name, value in zip_longest(args, args[1:], fillvalue=""):
        if name in ("-c", "--config") and value:
            files.append(value)
        if name.startswith("--config="):
            files.append(name.removeprefix("--config="))
    return files


def is_stored(path: str) -> bool:
    """Whether a config is a run's own, resolved by the version that wrote it."""
    run = Run(Path(path).parent)
    return Path(path) == run.config and run.manifest.is_file()


def read_config_file(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise UserError(f"--config {path}: no such file")
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: not a YAML file ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a config must be a mapping of keys")
    return content


def check_keys(path: str, content: dict[str, Any], known: dict[str, Any]) -> None:
    """What jsonargparse would not say clearly: keys that are no more or don't exist, and linked ones, which it ignores
    without a word; a user would think they count.
    """
    if OLD_KEY in flatten(content):
        rows = flatten(take_old_keys(content))["data.rows_per_step"]
        raise UserError(
            f"{path}: {OLD_KEY}: a step's rows are counted over all ranks now; write data.rows_per_step: {rows} in its "
            "place, and data.micro_batch_size: auto"
        )
    for source, target in LINKS.items():
        group, key = target.split(".")
        if isinstance(content.get(group), dict) and key in content[group]:
            raise UserError(f"{path}: {target} is taken from {source}; set that")
    for key in unknown_keys(content, known):
        names = {name for full in flatten(known) for name in accumulate(full.split("."), "{}.{}".format)}
        raise UserError(f"{path}: {key}: no such key{say_nearest(key, names)}")


def check_trainer_flags(trainer: Namespace) -> None:
    """Refuses Trainer flags that the loop replaces."""
    for flag, (value, instead) in REPLACED_FLAGS.items():
        if trainer.get(flag) not in (value, None):
            raise UserError(f"trainer.{flag}: the training loop replaces it; use {instead}")
    check_strategy(trainer.get("strategy") or "auto")
    if trainer.precision is not None:
        check_precision(torch.device("cpu"), precision_name(trainer.precision))
    epochs, steps = trainer.get("max_epochs"), trainer.get("max_steps")
    if epochs == 0 or steps == 0 or (epochs or 0) < -1 or (steps or 0) < -1 or (epochs == -1 and steps in (-1, None)):
        raise UserError(f"trainer.max_epochs {epochs}, trainer.max_steps {steps}: give one of them, at least 1")


def precision_name(precision: Any) -> str:
    """Of Lightning's spellings, the one that `Trainer.precision` has."""
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}.get(str(precision), str(precision))


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


def open_config(args: list[str], own: Sequence[str]) -> RevinstCLI:
    """Of `plan` and `inspect`: a config and overrides. A run's own config may be of another version."""
    if is_stored(args[0]):
        world_size = Run(Path(args[0]).parent).read_manifest().get("world_size")
        return read_run_config(Path(args[0]), world_size, args[1:], own)
    return RevinstCLI(["--config", *args], train=False, own=own)


def read_run_config(
    path: Path, world_size: int | None = None, overrides: Sequence[str] = (), own: Sequence[str] = ()
) -> RevinstCLI:
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
        return RevinstCLI([*as_before(), "--config", str(path), *overrides], train=False, own=own)
    with tempfile.TemporaryDirectory() as folder:
        translated = Path(folder) / path.name
        translated.write_text(yaml.safe_dump(taken), encoding="utf-8", newline="\n")
        return RevinstCLI([*as_before(), "--config", str(translated), *overrides], train=False, own=own)


def default_config() -> dict[str, Any]:
    """What a stored config without any key means; it has every key of this version."""
    return yaml.safe_load(RevinstCLI(as_before(), train=False).as_yaml)


def defaults_of(parser: LightningArgumentParser) -> dict[str, Any]:
    """Every key with its default, nested."""
    defaults = parser.get_defaults()
    defaults.pop("config", None)
    return yaml.safe_load(parser.dump(defaults, skip_none=False, skip_validation=True))


def config_difference(old: str, new: str, world_size: int | None = None) -> list[str]:
    """Lines `key: old -> new` for what a resumed run may not change. world_size: of the old one."""
    after = flatten(read_yaml(new))
    before = flatten(lay_over(default_config(), take_old_keys(read_yaml(old), world_size)))
    unknown = tuple(f"{key}." for key in unknown_keys(read_yaml(old), read_yaml(new)))
    return [
        f"{key}: {before.get(key)} -> "
        + ("no such key in this version" if f"{key}.".startswith(unknown) else str(after.get(key)))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not FREE_ON_RESUME.fullmatch(key)
    ]


def read_yaml(text: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"the run's config is not YAML any more ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(content, dict):
        raise UserError("the run's config is no mapping of keys any more")
    return content
