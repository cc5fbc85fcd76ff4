"""Which instructions help a forward model? The same rows with true, backward-model and lead-word instructions.

    python scripts/which_instructions_help.py --data rows.jsonl --run runs/NAME --work runs/which

Three forward models are trained on the same responses, and one instruction each from: the file (true), the run, the
response's first words. Each is judged by log p of held-out responses given their true instructions, which is what a
user would type; the base is judged too. Pairs are tested on the same rows, near-duplicates together, p by Holm.

Rows that the run was trained on are left out, so train it on part of them: with `--data.heldout_fraction 0.5` half of
a file is left for here. What follows `--` goes to `revinst fit` (`-- --trainer.max_epochs 2`).
"""

import argparse
import json
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from revinst.data.example_table import Examples, load_examples
from revinst.data.split import select_examples, split_examples
from revinst.data.words import normalise
from revinst.errors import UserError
from revinst.evaluation.baselines import lead_words
from revinst.evaluation.comparison import describe_pair
from revinst.evaluation.examples import name_groups
from revinst.evaluation.statistics import adjust_holm, number_groups
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.predictor import Predictor
from revinst.inference.trained import open_trained
from revinst.launch.ranks import run_command
from revinst.options import Parser
from revinst.runs.files import read_json, write_json, write_text

ARMS = ("lead_words", "backward", "true")


def main(args: list[str] | None = None) -> int:
    args = list(sys.argv[1:] if args is None else args)
    fit_args = args[args.index("--") + 1 :] if "--" in args else []
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="rows with instruction and response")
    parser.add_argument("--run", required=True, help="a run that writes instructions")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--config", default="configs/personal.yaml", help="of the forward models")
    parser.add_argument("--rows", type=int, help="take this many; default: all that the run was not trained on")
    parser.add_argument("--heldout", type=float, default=0.2)
    parser.add_argument("--val", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args(args[: args.index("--")] if "--" in args else args)
    try:
        result = compare_arms(options, fit_args)
    except UserError as error:
        print(f"which_instructions_help: {error}", file=sys.stderr)
        return 2
    write_json(options.work / "result.json", result)
    print_tables(result)
    return 0


def compare_arms(options: argparse.Namespace, fit_args: list[str]) -> dict[str, Any]:
    rows = choose_rows(options)
    split = split_examples(rows, options.heldout, options.val, options.seed)
    write_json(options.work / "split.json", split.to_json())
    instructions = write_instructions(options, rows)
    heldout = select_examples(rows, split.heldout)
    values: dict[str, np.ndarray] = {}
    for arm in ARMS:
        source = options.work / f"{arm}.jsonl"
        write_examples(source, rows, instructions[arm])
        where = ("--runs_dir", str(options.work), "--run_name", arm, "--data.source", str(source))
        run_revinst(
            "fit", "--config", options.config, *where, "--data.split", str(options.work / "split.json"), *fit_args
        )
        predictor = Predictor(open_trained(str(options.work / arm)), heldout, GenerationSettings())
        num_targets = predictor.count_targets()
        if not values:
            values["base"] = predictor.log_p(False) / num_targets
        values[arm] = predictor.log_p(True) / num_targets
    return describe(values, num_targets, name_groups(heldout), len(split.train))


def choose_rows(options: argparse.Namespace) -> Examples:
    """Rows that the run never saw: by id, or by the words of the response."""
    examples, _ = load_examples(options.data)
    trained = open_trained(options.run)
    if trained.run is None or trained.config is None:
        raise UserError(f"--run {options.run}: give a run folder, whose training rows are known")
    split = read_json(trained.run.split)
    known = trained.load_examples()
    seen = select_examples(known, [*split["train"], *split["val"]])
    ids, responses = set(seen.texts("id")), set(map(normalise, seen.texts("response")))
    fresh = [
        row
        for row, example in enumerate(examples)
        if example.id not in ids and normalise(example.response) not in responses
    ]
    order = np.random.default_rng(options.seed).permutation(len(fresh))[: options.rows]
    if len(order) < 10:
        raise UserError(f"{options.data}: only {len(order)} rows that the run was not trained on; give more")
    return examples.take([fresh[place] for place in sorted(order.tolist())])


def write_instructions(options: argparse.Namespace, rows: Examples) -> dict[str, list[str]]:
    source, output = options.work / "rows.jsonl", options.work / "generated.jsonl"
    write_examples(source, rows, rows.texts("instruction"))
    run_revinst("generate", options.run, str(source), "--output", str(output), "--pick", "greedy")
    made = {row["id"]: row["prediction"] for row in map(json.loads, output.open(encoding="utf-8"))}
    lead = lead_words(rows.texts("response"))
    # a forward row needs an instruction; where the run wrote none, the first words stand in
    backward = [made[example_id].strip() or words for example_id, words in zip(rows.texts("id"), lead, strict=True)]
    return {"true": rows.texts("instruction"), "backward": backward, "lead_words": lead}


def write_examples(path: Path, rows: Examples, instructions: list[str]) -> None:
    lines = (
        json.dumps({"id": row.id, "instruction": text, "response": row.response, "category": row.category})
        for row, text in zip(rows, instructions, strict=True)
    )
    write_text(path, "".join(line + "\n" for line in lines))


def run_revinst(*args: str) -> None:
    if code := run_command(*args):
        sys.exit(code)


def describe(
    values: dict[str, np.ndarray], num_targets: np.ndarray, names: list[str], num_train: int
) -> dict[str, Any]:
    """Mean log p a token over rows, perplexity over tokens, and every pair tested."""
    groups = number_groups(names)
    fits = ~np.isnan(next(iter(values.values())))
    systems = {
        name: {
            "log_p_a_token": float(found[fits].mean()),
            "perplexity": float(np.exp(-(found * num_targets)[fits].sum() / num_targets[fits].sum())),
        }
        for name, found in values.items()
    }
    found = {(a, b): describe_pair(values[a], values[b], groups) for a, b in combinations(values, 2)}
    adjusted = adjust_holm([pair["p"] for pair in found.values()])
    pairs = [{"a": a, "b": b, **pair, "p_holm": p} for ((a, b), pair), p in zip(found.items(), adjusted, strict=True)]
    counts = {"num_train": num_train, "num_heldout": int(fits.sum()), "num_groups": int(groups.max()) + 1}
    return counts | {"systems": systems, "pairs": pairs}


def print_tables(result: dict[str, Any]) -> None:
    table = Table(title=f"trained on {result['num_train']} rows, {result['num_heldout']} held out")
    for name in ("trained with", "log p a token", "perplexity"):
        table.add_column(name)
    for name, system in result["systems"].items():
        table.add_row(name, f"{system['log_p_a_token']:.4f}", f"{system['perplexity']:.3f}")
    pairs = Table(title="difference in log p a token")
    for name in ("pair", "difference", "95 % interval", "p (Holm)", "win/tie/loss"):
        pairs.add_column(name)
    for pair in result["pairs"]:
        low, high = (float("nan") if bound is None else bound for bound in pair["ci95"])
        outcomes = f"{pair['wins']}/{pair['ties']}/{pair['losses']}"
        interval = f"{low:+.4f} {high:+.4f}"
        pairs.add_row(
            f"{pair['b']} - {pair['a']}", f"{pair['difference']:+.4f}", interval, f"{pair['p_holm']:.4f}", outcomes
        )
    Console().print(table, pairs)


if __name__ == "__main__":
    sys.exit(main())
