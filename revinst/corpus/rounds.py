"""`revinst corpus --rounds N`: trains the run again with what was kept, and writes the instructions again.

That is Humpback's idea (https://arxiv.org/abs/2308.06259). It stops at the round whose loss on the run's own
validation rows (held-out rows where it has none) is not lower than before, and the round before it stays.
"""

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from revinst.config.parser import dump_config
from revinst.corpus.corpus import Corpus
from revinst.data.datamodule import build_data
from revinst.data.split import read_split, select_examples
from revinst.errors import UserError
from revinst.evaluation.likelihoods import loss_per_token
from revinst.inference.predictor import Predictor
from revinst.inference.trained import Trained, open_trained
from revinst.launch.ranks import run_command
from revinst.runs.files import write_json, write_text


def build_rounds(corpus: Corpus, rounds: int) -> dict[str, Any]:
    """Builds the corpus, and again with each round's run; the card of the last round that was better than the one
    before. On all ranks together. rounds: after the first writing; 0: none.
    """
    ranks = corpus.ranks
    card = corpus.build(corpus.trained, corpus.folder, 0)
    if not rounds:
        return card
    losses = [measure_loss(corpus, corpus.trained)]
    for number in range(1, rounds + 1):
        lines = "".join(training_lines(corpus.folder, corpus.trained))
        work = ranks.on_first(partial(choose_work, corpus.folder / "rounds" / str(number), lines))
        trained = train_again(corpus, work, lines)
        losses.append(measure_loss(corpus, trained))
        if losses[-1] >= losses[-2]:
            break
        card = corpus.build(trained, work, number)
    card["rounds"] = {"loss": losses, "kept": card["run"]["round"]}
    ranks.on_first(lambda: write_json(corpus.folder / "card.json", card))
    print("loss on validation rows by round: " + ", ".join(f"{loss:.4f}" for loss in losses))
    return card


def check_rounds(trained: Trained, rounds: int) -> None:
    if rounds and trained.run is None:
        raise UserError(f"--rounds {rounds}: {trained.path} is no run folder, so it can't be trained again")


def choose_work(folder: Path, lines: str) -> Path:
    """The round's folder; with a hash behind where other lines were trained on there, under other filters."""
    known = folder / "rows.jsonl"
    if not known.is_file() or known.read_text(encoding="utf-8") == lines:
        return folder
    return folder.with_name(f"{folder.name}-{hashlib.sha256(lines.encode()).hexdigest()[:8]}")


def train_again(corpus: Corpus, work: Path, lines: str) -> Trained:
    """A run like the first, from the base, on its training examples and on the corpus' training part."""
    corpus.ranks.on_first(lambda: run_fit(corpus, work, lines))
    return open_trained(str(work / "run"))


def run_fit(corpus: Corpus, work: Path, lines: str) -> None:
    """In processes of its own, on as many devices as there are ranks, which wait."""
    if not (work / "config.yaml").is_file():
        write_config(corpus, work, lines)
    count = corpus.ranks.world_size
    devices = ("--trainer.devices", count, "--trainer.num_nodes", 1) if count > 1 else ()
    if code := run_command("fit", "--config", work / "config.yaml", *devices):
        raise SystemExit(code)


def write_config(corpus: Corpus, work: Path, lines: str) -> None:
    """config.yaml, rows.jsonl and split.json of the round; the first run's validation and held-out parts stay such."""
    assert corpus.trained.run is not None
    config = corpus.trained.config
    assert config is not None
    known = set(corpus.trained.load_examples().texts("id"))
    write_text(work / "rows.jsonl", lines)
    given = config.data.source
    sources = [*(given if isinstance(given, list) else [given]), str(work / "rows.jsonl")]
    data = replace(config.data, source=sources, split=str(work / "split.json"))
    config = replace(config, data=data, runs_dir=str(work), run_name="run", resume="auto")
    added = [line for line in build_data(config).load_examples().texts("id") if line not in known]
    first = read_split(corpus.trained.run.split)
    split = replace(first, train=[*first.train, *added])
    write_json(work / "split.json", split.to_json())
    write_text(work / "config.yaml", dump_config(config))


def training_lines(folder: Path, trained: Trained) -> list[str]:
    """The corpus' training part as lines, under the names that the run's columns have."""
    names = trained.columns
    with (
        (folder / "dataset.jsonl").open(encoding="utf-8") as lines,
        (folder / "provenance.jsonl").open(encoding="utf-8") as provenance,
    ):
        pairs = [
            json.loads(line)
            for line, facts in zip(lines, provenance, strict=True)
            if json.loads(facts)["part"] == "train"
        ]
    return [json.dumps({names[key]: text for key, text in pair.items()}, ensure_ascii=False) + "\n" for pair in pairs]


def measure_loss(corpus: Corpus, trained: Trained) -> float:
    """-log p per target token on the validation part of the first run."""
    assert corpus.trained.run is not None
    split = read_split(corpus.trained.run.split)
    ids = split.val or split.heldout
    if not ids:
        raise UserError(f"--rounds: {corpus.trained.run.path} has no validation or held-out rows to judge a round by")
    predictor = Predictor(trained, select_examples(trained.load_examples(), ids), corpus.generation, corpus.ranks)
    loss = loss_per_token(predictor, predictor.log_p(use_adapter=True))
    return loss if loss is not None else float(np.inf)
