"""A config file and its overrides, parsed and checked by LightningCLI."""

import re
import tempfile
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, get_args, get_type_hints

import lightning as L
import torch
import yaml
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from revinst.data.datamodule import InstructionDataModule
from revinst.errors import UserError
from revinst.model.hardware import check_precision
from revinst.training.callbacks import Samples
from revinst.training.checkpoint import CheckpointSettings
from revinst.training.module import InstructionModule
from revinst.training.sharding import check_strategy

# Linked from another key, so that one value can't be written twice.
OLD_KEY = "data.micro_batches_per_step"
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
    """LightningCLI with our groups. `train=False` only parses: no model, no Trainer."""

    def __init__(self, args: list[str], train: bool = True):
        self.train = train
        check_config_files(args)
        try:
            super().__init__(
                InstructionModule,
                InstructionDataModule,
                save_config_callback=None,
                seed_everything_default=42,
                parser_kwargs={
                    "exit_on_error": False,
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
        self.config = parser.parse_args(args)

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


def check_config_files(args: list[str]) -> None:
    """What jsonargparse would not say clearly: a file that is no config, and keys of it that would not count."""
    if any(arg.partition("=")[0] == f"--{OLD_KEY}" for arg in args):
        raise UserError(f"--{OLD_KEY}: give --data.rows_per_step, the rows of a step over all ranks, in its place")
    for name, value in zip_longest(args, args[1:], fillvalue=""):
        path = value if name in ("-c", "--config") else ""
        if name.startswith("--config="):
            path = name.removeprefix("--config=")
        if path:
            check_keys(path, read_config_file(path))


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


def check_keys(path: str, content: dict[str, Any]) -> None:
    """jsonargparse ignores a linked key in a file without a word; a user would think it counts."""
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


def read_run_config(path: Path, world_size: int | None = None) -> RevinstCLI:
    """The config of a run, parsed as `fit` would; nothing is loaded. world_size: the run's, for old keys."""
    content = read_config_file(str(path))
    if OLD_KEY not in flatten(content):
        return RevinstCLI(["--config", str(path)], train=False)
    with tempfile.TemporaryDirectory() as folder:
        translated = Path(folder) / path.name
        translated.write_text(yaml.safe_dump(take_old_keys(content, world_size)), encoding="utf-8", newline="\n")
        return RevinstCLI(["--config", str(translated)], train=False)


def take_old_keys(content: dict[str, Any], world_size: int | None = None) -> dict[str, Any]:
    """A config with what keys of older versions meant: rows_per_step was micro_batch_size x micro_batches_per_step x
    ranks. world_size: None: what the config's devices are, where they are a number.
    """
    data = dict(content.get("data") or {})
    if "micro_batches_per_step" not in data:
        return content
    trainer = content.get("trainer") or {}
    if world_size is None:
        devices = str(trainer.get("devices") or 1)
        world_size = int(devices if devices.isdigit() else 1) * (trainer.get("num_nodes") or 1)
    data["rows_per_step"] = data.get("micro_batch_size", 6) * data.pop("micro_batches_per_step") * world_size
    return content | {"data": data}


def config_difference(old: str, new: str, world_size: int | None = None) -> list[str]:
    """Lines `key: old -> new` for what a resumed run may not change. world_size: of the old one."""
    before, after = flatten(take_old_keys(read_yaml(old), world_size)), flatten(read_yaml(new))
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not FREE_ON_RESUME.fullmatch(key)
    ]


def read_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"the run's config is not YAML any more ({' '.join(str(error).split())[:200]})") from None


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`"""
    if not isinstance(config, dict):
        return {prefix.rstrip("."): config}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.")
    return flat
