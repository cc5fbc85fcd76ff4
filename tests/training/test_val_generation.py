"""Texts that are written and scored in validation passes: by the report's own scores, without a trace in training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from revinst.config.settings import ValGenerationSettings
from revinst.config.words import GENERATED_METRICS
from revinst.data.split import read_split
from revinst.evaluation.head import HEAD_METRICS
from revinst.evaluation.scores import TEXT_METRICS, score_predictions
from revinst.evaluation.settings import EvaluationSettings
from revinst.evaluation.while_training import (
    WhileTraining,
    choose_decoding,
    compare_decoding,
    describe_while_training,
    read_while_training,
)
from revinst.inference.engine.engine import GenerationSettings
from revinst.inference.picks import PickSettings
from revinst.inference.predictor import Predictor
from revinst.inference.trained import open_trained
from revinst.runs.metrics import read_rows
from revinst.training import text_scores
from revinst.training.text_scores import TextScores
from revinst.training.val_generation import draw_rows
from tests.commands.test_run import fit
from tests.survive.faults import arguments, assert_equal, run_process, state_of, write_rows
from tests.tiny import build_data

PREDICTIONS = ["How do comets form?", "", "who was she", "彗星是什么", "why"]
REFERENCES = ["How do comets melt?", "What is it?", "Who was she?", "彗星如何形成", "..."]
EXACT = {"model.lr": 1e-3, "trainer.precision": "32-true", "model.quantization": "none", "samples.every_steps": 0}
EVERY_TWO = {"val_generation.every_steps": 2, "val_generation.rows": 8, "data.val_fraction": 0.05}


def test_scores_are_the_means_of_the_rows_that_have_them():
    device = torch.device("cpu")
    expected = score_predictions(PREDICTIONS, REFERENCES)
    assert np.isnan(expected["rougeL"]).sum() == 2 and np.isnan(expected["rougeL_unicode"]).sum() == 1
    parts = TextScores(device)
    for start, end in ((0, 2), (2, 2), (2, 5)):
        parts.update(PREDICTIONS[start:end], REFERENCES[start:end])
    found = {metric: float(mean) for metric, mean in parts.compute().items()}
    assert found == pytest.approx({metric: np.nanmean(expected[metric]) for metric in GENERATED_METRICS}, rel=1e-12)
    assert set(GENERATED_METRICS) < set(TEXT_METRICS) and 0.1 < found["rougeL"] < 0.9


def test_a_metric_that_reads_no_row_has_no_mean():
    scores = TextScores(torch.device("cpu"))
    scores.update(PREDICTIONS[3:4], REFERENCES[3:4])
    assert {"rouge1", "rouge2", "rougeL"} == set(GENERATED_METRICS) - scores.compute().keys()


def test_rows_are_drawn_by_the_seed(tiny_llama):
    data = build_data(tiny_llama, val_fraction=0.1)
    data.setup()
    few, more = (draw_rows(data, count) for count in (8, 1000))
    ids = [example.id for example in few.examples]
    assert more.source == "response" and [example.id for example in more.examples] == data.split.val
    assert len(ids) == 8 and ids == [each for each in data.split.val if each in ids] != data.split.val[:8]
    assert [example.id for example in draw_rows(data, 8).examples] == ids


@pytest.fixture(scope="module")
def runs(tiny_llama, tmp_path_factory) -> Path:
    """One run without texts, one with those of two ways of decoding."""
    folder = tmp_path_factory.mktemp("val_generation")
    assert fit(folder, "without", tiny_llama, **EXACT | {"data.val_fraction": 0.05}) == 0
    assert fit(folder, "greedy", tiny_llama, **EXACT | EVERY_TWO) == 0
    return folder


def test_training_does_not_notice(runs):
    """Dropout included; the state that the next step would begin with too."""
    without, greedy = (state_of(runs / name) for name in ("without", "greedy"))
    for part in ("adapter", "state_dict", "optimizer", "rng", "step", "data"):
        assert_equal(greedy[part], without[part], part)
    names = [f"val/{metric}" for metric in GENERATED_METRICS]
    steps = [int(row["step"]) for row in greedy["rows"] if all(row[name] for name in names)]
    assert steps == [1, 3, 5] == [int(row["step"]) for row in greedy["rows"] if row["val/loss"]]
    assert all(row[name] == greedy["rows"][number][name] for number, row in enumerate(without["rows"]) for name in row
               if name != "val/loss")  # fmt: skip


def test_scores_are_those_of_the_finished_adapter(runs, tiny_llama):
    """As `evaluate` would write and score the same rows."""
    data = build_data(tiny_llama, val_fraction=0.05, heldout_fraction=0.03)
    data.setup()
    examples = draw_rows(data, 8).examples
    predictor = Predictor(open_trained(str(runs / "greedy")), examples, GenerationSettings(precision="fp32"))
    texts = predictor.predict(runs / "predictions", use_adapter=True)
    scores = score_predictions([text.prediction for text in texts], [text.reference for text in texts])
    (last,) = [row for row in read_rows(runs / "greedy" / "metrics.csv") if row["step"] == "5"]
    assert any(text.prediction for text in texts)
    for metric in GENERATED_METRICS:
        assert float(last[f"val/{metric}"]) == pytest.approx(np.nanmean(scores[metric]), rel=1e-6)


@pytest.mark.parametrize(
    ("samples", "asked", "temperature", "differs"),
    [
        (1, PickSettings(), 0.0, []),
        (1, PickSettings(), 0.5, ["temperature 0.0 there, 0.5 here"]),
        (4, PickSettings(4, "consensus"), 0.7, []),
        (4, PickSettings(4, "greedy"), 0.7, ["pick consensus there, greedy here"]),
        (1, PickSettings(4, "greedy"), 0.7, ["temperature 0.0 there, 0.7 here", "samples 1 there, 4 here"]),
    ],
)
def test_decoding_that_differs_is_named(samples, asked, temperature, differs):
    there = choose_decoding(ValGenerationSettings(samples=samples), 100)
    assert compare_decoding(there, (GenerationSettings(temperature=temperature), asked)) == differs


def test_a_report_says_how_it_differs_from_the_scores_while_training(runs):
    """The last pass's means stand beside an evaluation's; with the same rows and decoding nothing differs."""
    trained = open_trained(str(runs / "greedy"))
    (last,) = [row for row in read_rows(runs / "greedy" / "metrics.csv") if row["step"] == "5"]
    val, generation = read_split(runs / "greedy" / "split.json").val, GenerationSettings()

    def describe(ids: list[str], rows: int, generation: GenerationSettings = generation, **asked) -> WhileTraining:
        config = replace(trained.config, val_generation=replace(trained.config.val_generation, rows=rows))
        found = read_while_training(replace(trained, config=config), ids, EvaluationSettings(**asked), generation)
        assert found and found["means"]["rougeL"] == float(last["val/rougeL"]) and found["step"] == 6
        return found

    same = describe(val, 1000, part="val")
    assert same["differs"] == [] and same["n"] == len(val) > 8
    (line,) = describe_while_training(same, HEAD_METRICS)
    assert line.endswith("(the same rows, decoded in the same way)") and f"{float(last['val/rougeL']):.3f}" in line
    assert describe(val, 8, part="val")["differs"] == [
        f"8 rows of the validation part there, {len(val)} of the validation part here"
    ]
    others = describe(["a", "b"], 1000, GenerationSettings(max_new_tokens=64), step=3)["differs"]
    assert others == [
        f"{len(val)} rows of the validation part there, 2 of the held-out part here",
        "the adapter after step 6 there",
        "max_new_tokens 100 there, 64 here",
    ]
    trained.run.update_manifest(adapter_steps=[4])  # checkpoint.final: best
    assert describe(val, 1000, part="val")["differs"] == ["the adapter after step 6 there"]
    trained.run.update_manifest(adapter_steps=[6])
    assert read_while_training(trained, val, EvaluationSettings(use_adapter=False), generation) is None
    assert read_while_training(open_trained(str(runs / "without")), val, EvaluationSettings(), generation) is None


@pytest.fixture
def schedule(monkeypatch):
    """schedule(values): what each pass scores, in turn."""

    def use(values: list[float]) -> None:
        left = list(values)

        def score(predictions, references):
            return dict.fromkeys(TEXT_METRICS, np.full(len(predictions), left.pop(0)))

        monkeypatch.setattr(text_scores, "score_predictions", score)

    return use


@pytest.mark.wide
def test_the_best_is_kept_and_early_stopping_stops(tiny_llama, tmp_path, schedule, capsys):
    """Best in the second pass; two later ones without a gain end the run, in order. Consensus of two samples."""
    schedule([0.25, 0.5, 0.375, 0.125])
    stop = '[{"class_path": "EarlyStopping", "init_args": {"monitor": "val/rougeL", "mode": "max", "patience": 2}}]'
    options = EXACT | {"trainer.callbacks": stop, "checkpoint.monitor": "val/rougeL", "checkpoint.every_steps": 1}
    options |= {"val_generation.every_steps": 1, "val_generation.rows": 3, "val_generation.samples": 2}
    assert fit(tmp_path, "one", tiny_llama, **options | {"checkpoint.keep_last": 1}) == 0
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert manifest["completed"] and manifest["steps"] == 4 and (tmp_path / "one" / "adapter").is_dir()
    kept = sorted((tmp_path / "one" / "checkpoints").glob("*.json"))
    assert [path.stem for path in kept] == ["step-000002", "step-000004"]
    assert [json.loads(path.read_text())["val/rougeL"] for path in kept] == [0.5, 0.125]
    assert "step 2: val/rougeL 0.500, val/rougeL_unicode 0.500, val/chrf 0.500 of 3" in capsys.readouterr().out


@pytest.mark.wide
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_stopped_while_it_writes(tiny_llama, tmp_path, name):
    """In the second pass; the same command then goes on to the end of a run that nobody disturbed."""
    write_rows(tmp_path / "rows.jsonl")
    options = {"data.seq_len": 256, "model.lr": 1e-3, "val_generation.every_steps": 3, "checkpoint.monitor": "val/chrf"}

    def start(run: str, *fault: str) -> int:
        return run_process(arguments(tmp_path, run, tiny_llama, **options), tmp_path / f"{run}.log", *fault)[0]

    assert start("whole") == 0, (tmp_path / "whole.log").read_text()[-3000:]
    assert start("stopped", name, "write_samples:1") == {"SIGTERM": 143, "SIGKILL": -9}[name]
    if name == "SIGTERM":
        assert (tmp_path / "stopped" / "checkpoints" / "step-000006.json").is_file()
    assert start("stopped") == 0, (tmp_path / "stopped.log").read_text()[-3000:]
    state = state_of(tmp_path / "whole")
    assert_equal(state_of(tmp_path / "stopped"), state)
    assert len({row["val/chrf"] for row in state["rows"]}) > 3
