"""`revinst inspect`: what a config makes of its data; loads no model."""

import json
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from revinst.config.stored import open_config
from revinst.options import Parser
from revinst.progress import SIGNS
from revinst.system import quiet_libraries

if TYPE_CHECKING:
    from revinst.data.datamodule import InstructionDataModule


def main(args: list[str]) -> int:
    parser = build_options()
    options, overrides = parser.parse_known_args(args)
    config = open_config(overrides, list(parser._option_string_actions))
    from revinst.data.inputs import check_inputs

    check_inputs(config.data, config.model.base)
    from revinst.data.datamodule import build_data
    from revinst.data.summary import summarise_data

    quiet_libraries()
    data = build_data(config)
    data.setup()
    summary = summarise_data(data)
    if options.json:
        print(json.dumps(summary, indent=2))
    else:
        show(data, summary)
    return 0


def build_options() -> ArgumentParser:
    parser = Parser(
        prog="revinst inspect",
        usage="revinst inspect CONFIG [--KEY VALUE ...] [--json]",
        description="Shows what a config, or a run's, makes of its data; takes the same overrides as revinst fit.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    return parser


def show(data: "InstructionDataModule", summary: dict[str, Any]) -> None:
    import numpy as np

    from revinst.data.example_table import count_categories, list_sources
    from revinst.data.packed_text import render_row
    from revinst.data.prompt import render_prompt

    console = Console()
    sources = (
        f"{name}{f' (weight {weight:g})' if weight != 1 else ''}" for name, weight in list_sources(data.settings.source)
    )
    table = Table(title=Text(", ".join(sources)), show_header=False)
    for key, value in summary.items():
        if key != "dropped_by_reason":
            table.add_row(key, f"{value:,}" if isinstance(value, int) else f"{value:.4g}")
    console.print(table)
    for choice, reason in data.reasons.items():
        console.print(f"{choice}: {reason}", markup=False)
    for reason, count in summary["dropped_by_reason"].items():
        console.print(f"  dropped: {count:,}: {reason}", markup=False)
    for category, count in count_categories(data.examples).items():
        console.print(f"  {category.translate(SIGNS) or '(no category)'}: {count:,}", markup=False)
    lengths = np.percentile(data.train_documents.lengths, [5, 50, 95, 100]).round().astype(int)
    console.print("tokens of a document, 5th, 50th, 95th, 100th percentile:", ", ".join(map(str, lengths)))
    number = int(np.random.default_rng(data.seed).integers(len(data.split.train)))
    prompt = render_prompt(data.template, data.examples_of("train")[number], data.settings.context == "include")
    console.rule("a formatted sample")
    console.print(Text(prompt.text.translate(SIGNS)), Text(prompt.target.translate(SIGNS), style="reverse"), sep="")
    for row in range(min(3, len(data.train_rows))):
        console.rule(f"row {row}: what is supervised is reversed; each document has its colour")
        console.print(render_row(data, row))
