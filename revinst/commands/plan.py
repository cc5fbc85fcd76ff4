"""`revinst plan`: steps, memory, disk and time of a config before any weights are loaded; builds no Trainer."""

import contextlib
import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from revinst.config.settings import Config
from revinst.config.stored import open_config
from revinst.data.datamodule import InstructionDataModule, build_data
from revinst.errors import UserError
from revinst.model.hardware import choose_precision
from revinst.planning.plan import build_plan, read_machine
from revinst.planning.trial import measure_step
from revinst.system import quiet_libraries
from revinst.training.module import InstructionModule, check_settings
from revinst.training.trainer import check_trainer_flags

USAGE = """usage: revinst plan CONFIG [--KEY VALUE ...] [--device cuda|cpu] [--memory_gib N] [--json] [--measure]

Says what a config will cost before anything is loaded; takes the same overrides as revinst fit.
  --device      plan for a GPU or the CPU (default: this machine's; several devices are GPUs)
  --memory_gib  memory of the device to plan for (default: this machine's)
  --measure     take two real steps, and report the second beside the plan"""


def main(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if args[0].startswith("-"):
        raise UserError(USAGE.splitlines()[0])
    args, own = split_options(args)
    quiet_libraries()
    config = open_config(args, [f"--{name}" for name in own])
    check_trainer_flags(config)
    check_settings(config.model)
    machine = read_machine(config.trainer, own["device"])
    data = build_data(config)
    data.setup()
    plan = build_plan(config, data, machine, own["memory_gib"])
    if own["measure"]:
        plan["measured"] = measure(config, data)
    if own["json"]:
        print(json.dumps(plan, indent=2))
    else:
        render_plan(plan, config.run_name)
    return 0


def measure(config: Config, data: InstructionDataModule) -> dict[str, float]:
    module, trainer = InstructionModule(config.model), config.trainer
    with contextlib.redirect_stdout(sys.stderr):  # stdout holds the plan alone
        precision = trainer.precision or choose_precision(trainer.accelerator)
        return measure_step(module, data, accelerator=trainer.accelerator, precision=precision)


def split_options(args: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Our own options, and what is left for the config's parser."""
    own: dict[str, Any] = {"device": None, "memory_gib": None, "json": "--json" in args, "measure": "--measure" in args}
    rest = [arg for arg in args if arg not in ("--json", "--measure")]
    for name in ("device", "memory_gib"):
        for position, arg in enumerate(rest):
            key, equals, value = arg.partition("=")
            if key != f"--{name}":
                continue
            value = value if equals else "".join(rest[position + 1 : position + 2])
            del rest[position : position + (1 if equals else 2)]
            own[name] = value
            break
    if own["device"] not in (None, "cuda", "cpu"):
        raise UserError(f"--device {own['device']}: choose from cuda, cpu")
    if own["memory_gib"] is not None:
        try:
            own["memory_gib"] = float(own["memory_gib"])
        except ValueError:
            raise UserError(f"--memory_gib {own['memory_gib']}: a number of GiB") from None
    return rest, own


def render_plan(plan: dict[str, Any], name: str) -> None:
    table = Table(title=f"plan of {name}", show_header=False)
    names = ("device", "devices", "sharded", "dtype", "micro_batch_size", "steps", "steps_per_epoch", "tokens")
    for key in (*names, "supervised_tokens"):
        table.add_row(key, f"{plan[key]:,}" if type(plan[key]) is int else str(plan[key]))
    for part, gib in plan["memory_gib"].items():
        table.add_row(f"memory: {part}", f"{gib:.2f} GiB")
    if plan["sharded"]:
        table.add_row("memory: base before sharding", f"{plan['load_gib']:.2f} GiB")
    if plan["device"] == "cuda":
        table.add_row("fits GPUs of", ", ".join(f"{size} GB" for size in plan["fits_gpus_of_gb"]) or "none of these")
    table.add_row("recomputed layers", "{} of {}".format(*plan["recomputed_layers"]))
    table.add_row("disk", f"{plan['disk_gib']:.2f} GiB")
    speed = f"{plan['tokens_per_s']:,} tokens/s, {plan['hours']} h" if plan["tokens_per_s"] else "unknown"
    table.add_row("time", f"{speed} ({plan['speed_from']})")
    for key, value in plan.get("measured", {}).items():
        table.add_row(f"measured: {key}", f"{value:,}")
    Console().print(table)
    if not plan["fits"]:
        available = plan["device_memory_gib"]
        print(f"does not fit in {available} GiB; change first: {plan['change_first']}", file=sys.stderr)
