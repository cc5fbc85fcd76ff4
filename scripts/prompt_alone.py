"""Does a personal model write more like its owner than its base does that is shown some texts in the prompt?

    revinst evaluate runs/personal
    python scripts/prompt_alone.py runs/own runs/personal [RUN ...] [--shots 3]

OWN is the folder of `revinst corpus` that RUN was trained on; several runs are seeds of one model, and a row's score is
their mean. The prompt is the template `forward` after so many of its training rows; nothing is trained. Base, prompt
alone and RUN write for the held-out rows of RUN; the prompt's texts go into the first RUN/evaluation/prompt-alone, the
others are those of `revinst evaluate` where they are there. Prints Markdown.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from revinst.data.prompt import SLOT, load_template
from revinst.data.redacted import read_strings
from revinst.errors import UserError
from revinst.evaluation.comparison import describe_pair, format_difference
from revinst.evaluation.evaluate import find_folder
from revinst.evaluation.examples import choose_examples
from revinst.evaluation.likelihoods import loss_per_token
from revinst.evaluation.report import format_number
from revinst.evaluation.scores import score_predictions
from revinst.evaluation.scoring import place_base
from revinst.evaluation.settings import EvaluationSettings
from revinst.evaluation.statistics import adjust_holm, number_groups
from revinst.evaluation.style import compare_styles, describe_style
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.predictor import Predictor
from revinst.inference.trained import Trained, open_trained
from revinst.options import Parser
from revinst.runs.files import write_text
from revinst.system import quiet_libraries

METRICS = {"log_p": "log p a token", "rougeL_unicode": "ROUGE-L", "chrf": "chrF"}


@dataclass(frozen=True, slots=True)
class System:
    """texts: one a held-out row and seed. scores: by METRICS, `[seeds, rows]` each. losses: a token, of each seed."""

    name: str
    texts: list[str]
    losses: list[float]
    scores: dict[str, np.ndarray]


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("own", type=Path)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--shots", type=int, default=3, help="texts in the prompt")
    parser.add_argument("--seed", type=int, default=42, help="they are drawn by it")
    parser.add_argument("--max_new_tokens", type=int, help="of a text; default: as `revinst generate`")
    options = parser.parse_args()
    quiet_libraries()
    try:
        print_tables(options)
    except UserError as error:
        print(f"prompt_alone: {error}", file=sys.stderr)
        return 2
    return 0


def print_tables(options: argparse.Namespace) -> None:
    first, *others = [open_trained(run) for run in options.runs]
    evaluated = choose_examples(first, None, None)
    settings = GenerationSettings(max_new_tokens=options.max_new_tokens or first.new_tokens)
    systems, seeds = list[System](), list[System]()
    for trained in (first, *others):
        if not trained.writes_texts:
            raise UserError(f"{trained.path}: it writes no texts; give a personal model (data.template: forward)")
        if choose_examples(trained, None, None).examples != evaluated.examples:
            raise UserError(f"{trained.path}: it holds out other rows than {first.path}; give both one data.split")
        predictor = Predictor(trained, evaluated.examples, settings)
        folder = find_folder(predictor, EvaluationSettings())
        if trained is first:
            systems.append(measure("base", predictor, place_base(predictor, folder, settings), False, folder))
        seeds.append(measure("trained", predictor, folder, True, folder))
        del predictor
    place = first.path / "evaluation" / "prompt-alone"
    prompted = show_texts(first, place / "template.txt", options)
    of_prompt = Predictor(prompted, evaluated.examples, settings)
    systems.append(measure(f"base, {options.shots} texts in the prompt", of_prompt, place, False, place))
    own = [example.response for example in evaluated.examples]
    for line in describe([*systems, join(seeds)], own, number_groups(evaluated.groups)):
        print(line)


def show_texts(trained: Trained, path: Path, options: argparse.Namespace) -> Trained:
    """The same base under a template that has texts of the owner in it. Raises UserError where there are too few."""
    rows = list(find_shown(options.own))
    if len(rows) < options.shots:
        raise UserError(f"{options.own}: {len(rows)} training rows can be shown, --shots asks for {options.shots}")
    chosen = random.Random(options.seed).sample(rows, options.shots)
    shown = [f"### Instruction:\n{instruction}\n\n### Response:\n{text}" for instruction, text in chosen]
    write_text(path, "\n\n".join([*shown, load_template("forward").text]) + "\n")
    return replace(trained, template_name=str(path), run=None, config=None)


def find_shown(own: Path) -> Iterator[tuple[str, str]]:
    """Instruction and text of training rows without a canary. A text whose paragraphs have several lines is none: the
    first of these would be taken for a header of the template, and end what is written.
    """
    beside = own.with_name(f"{own.name}.canaries.json")
    canaries = list(read_strings(beside).values()) if beside.is_file() else []
    files = (own / name for name in ("dataset.jsonl", "provenance.jsonl"))
    for lines in zip(*(file.read_text(encoding="utf-8").splitlines() for file in files), strict=True):
        row, origin = map(json.loads, lines)
        text = row["response"].strip()
        is_flat = not any("\n" in part for part in (row["instruction"], *text.split("\n\n")))
        is_clean = not SLOT.search(row["instruction"] + text) and not any(canary in text for canary in canaries)
        if origin["part"] == "train" and is_flat and is_clean:
            yield row["instruction"], text


def measure(name: str, predictor: Predictor, folder: Path, use_adapter: bool, likelihoods: Path) -> System:
    predictor.keep_likelihoods(likelihoods)
    texts = [each.prediction for each in predictor.predict(folder, use_adapter)]
    log_p = predictor.log_p(use_adapter)
    found = score_predictions(texts, [example.response for example in predictor.examples])
    scores = {"log_p": log_p / predictor.count_targets()} | {metric: found[metric] for metric in list(METRICS)[1:]}
    loss = loss_per_token(predictor, log_p)
    scores = {metric: np.array([values]) for metric, values in scores.items()}
    return System(name, texts, [float("nan") if loss is None else loss], scores)


def join(seeds: Sequence[System]) -> System:
    texts = [text for seed in seeds for text in seed.texts]
    scores = {metric: np.concatenate([seed.scores[metric] for seed in seeds]) for metric in METRICS}
    return System(seeds[0].name, texts, [loss for seed in seeds for loss in seed.losses], scores)


def describe(systems: Sequence[System], own: Sequence[str], groups: np.ndarray) -> Iterator[str]:
    """Lines of two Markdown tables: the systems, and the last less each of the others."""
    of_texts = list(METRICS)[1:]
    yield "| | loss a token | ROUGE-L | chrF | words a text | a sentence | distance of frequent words |"
    yield "|" + " --- |" * 7
    for system in systems:
        of_seeds = [system.losses, *(np.nanmean(system.scores[metric], axis=1) for metric in of_texts)]
        numbers = " | ".join(map(format_seeds, of_seeds))
        distance = compare_styles(system.texts, own)["function_words"]
        yield f"| {system.name} | {numbers} | {describe_words(system.texts)} | {distance:.3f} |"
    yield f"| own texts | | | | {describe_words(own)} | 0 |"
    *others, last = systems
    pairs = [(other, metric) for other in others for metric in METRICS]
    parts = [
        describe_pair(other.scores[metric].mean(axis=0), last.scores[metric].mean(axis=0), groups)
        for other, metric in pairs
    ]
    cells = [
        f"{format_difference(part['difference'])} [{', '.join(map(format_difference, part['ci95']))}], p {p:.3f}"
        for part, p in zip(parts, adjust_holm([part["p"] for part in parts]), strict=True)
    ]
    yield f"\n{len(own)} held-out texts; paired differences, 95 % intervals, p by Holm over these {len(pairs)}:\n"
    yield f"| {last.name} less | {' | '.join(METRICS.values())} |\n|" + " --- |" * (1 + len(METRICS))
    for number, other in enumerate(others):
        yield f"| {other.name} | {' | '.join(cells[number * len(METRICS) : (number + 1) * len(METRICS)])} |"


def format_seeds(values: Sequence[float]) -> str:
    """The mean, and the standard deviation of several."""
    if np.isnan(values).any():
        return format_number(None)
    mean = format_number(float(np.mean(values)))
    return f"{mean} ({format_number(float(np.std(values, ddof=1)))})" if len(values) > 1 else mean


def describe_words(texts: Sequence[str]) -> str:
    style = describe_style(texts)
    return f"{style['words']:.0f} | {style['words_a_sentence']:.1f}"


if __name__ == "__main__":
    sys.exit(main())
