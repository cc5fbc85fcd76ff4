"""`revinst plan`: steps, memory, disk and time of a config before any weights are loaded; builds no Trainer."""

import contextlib
import json
import sys
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from revinst.config.settings import Config
from revinst.config.stored import open_config
from revinst.config.trainer_flags import check_trainer_flags
from revinst.options import Parser
from revinst.progress import in_words
from revinst.system import quiet_libraries

if TYPE_CHECKING:
    from revinst.data.datamodule import InstructionDataModule


def main(args: list[str]) -> int:
    parser = build_options()
    options, overrides = parser.parse_known_args(args)
    config = open_config(overrides, list(parser._option_string_actions))
    check_trainer_flags(config)
    from revinst.data.inputs import check_inputs

    check_inputs(config.data, config.model.base)
    from revinst.data.datamodule import build_data
    from revinst.export.gguf import why_not_gguf
    from revinst.planning.plan import build_plan, read_machine

    quiet_libraries()
    machine = read_machine(config.trainer, options.device)
    data = build_data(config)
    data.setup()
    plan = build_plan(config, data, machine, options.memory_gib)
    plan["gguf"] = why_not_gguf(config.model.base, data.tokenizer) or "yes"
    if data.tokenizer.foreign:
        print(f"fit refuses model.base {config.model.base}: {data.tokenizer.foreign}", file=sys.stderr)
    if options.measure:
        plan["measured"] = measure(config, data)
    if options.json:
        print(json.dumps(plan, indent=2))
    else:
        render_plan(plan, config.run_name)
    return 0


def build_options() -> ArgumentParser:
    parser = Parser(
        prog="revinst plan",
        usage="revinst plan CONFIG [--KEY VALUE ...] [options]",
        description="Says what a config, or a run's, will cost; takes the same overrides as revinst fit.",
    )
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], help="plan for it (default: this machine's; several devices are GPUs)"
    )
    parser.add_argument("--memory_gib", type=float, metavar="N", help="of the device (default: this machine's)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--measure", action="store_true", help="take two real steps, and report the second")
    return parser


def measure(config: Config, data: "InstructionDataModule") -> dict[str, float]:
    from revinst.model.hardware import choose_precision
    from revinst.planning.trial import measure_step
    from revinst.training.module import InstructionModule

    module, trainer = InstructionModule(config.model), config.trainer
    with contextlib.redirect_stdout(sys.stderr):  # stdout holds the plan alone
        precision = trainer.precision or choose_precision(trainer.accelerator)
        return measure_step(module, data, accelerator=trainer.accelerator, precision=precision)


def render_plan(plan: dict[str, Any], name: str) -> None:
    from revinst.planning.plan import list_warnings

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
    speed = f"{plan['tokens_per_s']:,} tokens/s, {in_words(plan['seconds'])}" if plan["tokens_per_s"] else "unknown"
    table.add_row("merge --gguf", plan["gguf"])
    table.add_row("time", f"{speed} ({plan['speed_from']})")
    for key, value in plan.get("measured", {}).items():
        table.add_row(f"measured: {key}", f"{value:,}")
    Console().print(table)
    for line in list_warnings(plan):
        print(line, file=sys.stderr)
