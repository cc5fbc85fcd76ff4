"""From predictions to scores.json, report.html and the scored predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from revinst.data.prompt import prompt_lines
from revinst.evaluation.charts import read_curves
from revinst.evaluation.examples import EvaluatedExamples
from revinst.evaluation.facts import describe_evaluation
from revinst.evaluation.folders import place_evaluation
from revinst.evaluation.judged import Judged, rate_predictions
from revinst.evaluation.likelihoods import describe_gain, loss_per_token, measure_likelihoods
from revinst.evaluation.report_page import write_report
from revinst.evaluation.sacrebleu_scores import score_corpus
from revinst.evaluation.samples import score_samples
from revinst.evaluation.scores import ExampleScores, metric_settings
from revinst.evaluation.settings import EvaluationSettings
from revinst.evaluation.statistics import number_groups
from revinst.evaluation.summary import compare_to_baselines, summarise_metrics, summarise_scores
from revinst.evaluation.systems import by_example, label_examples, score_texts, write_predictions
from revinst.evaluation.while_training import read_while_training
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.picks import PickSettings
from revinst.inference.predictions import Prediction
from revinst.inference.predictor import Predictor
from revinst.inference.samples import Picked, Written
from revinst.progress import Stage, track
from revinst.runs.files import write_json


@dataclass(frozen=True, slots=True)
class Made:
    """What a model was needed for. first: what is scored. written, picked: what it was taken from, if from samples."""

    first: list[Prediction]
    base: list[Prediction]
    likelihoods: ExampleScores
    written: list[Written]
    picked: list[Picked]


def score_evaluation(
    predictor: Predictor,
    evaluated: EvaluatedExamples,
    folder: Path,
    asked: EvaluationSettings,
    responder: Predictor | None = None,
) -> dict[str, Any]:
    """Predicts what is missing, scores all, and writes the folder. Returns the content of scores.json.

    responder: the same examples under `asked.forward`.

    Ranks share the passes through the model; then the first one scores and writes, and the others return {}.
    """
    base_folder = place_base(predictor, folder, asked.of_one(predictor.settings))
    made = predict_all(predictor, folder, base_folder, asked, responder)
    if not predictor.ranks.is_first:
        return {}
    first = made.first
    baselines, nearest = score_systems(predictor, evaluated, made, asked.semantic), evaluated.find_nearest()
    own, judged = baselines.pop("own"), None
    if asked.judge:
        texts = [each.prediction for each in first]
        own["judge"], judged = rate_predictions(asked.judge, folder, Judged.of(evaluated), texts)
    key = predictor.key(asked.use_adapter, picks=asked.picks)
    settings = key.to_json() | describe_metrics(predictor, evaluated, asked.semantic)
    if asked.with_likelihoods:
        settings["gain"] = describe_gain(predictor, responder)
    with Stage("confidence intervals", brief=True):
        scores = summarise_scores(own, label_examples(evaluated, nearest), baselines, settings)
    scores["corpus"] = score_corpus([each.prediction for each in first], [each.reference for each in first])
    scores |= {"judge": judged} if judged else {}
    ids = [example.id for example in predictor.examples]
    if found := read_while_training(predictor.trained, ids, asked, predictor.settings):
        scores["while_training"] = found
    scores["heldout_loss"] = loss_per_token(predictor, own["logp_reference"])
    extras = [
        {"group": group} | audit | values
        for group, audit, values in zip(evaluated.groups, nearest, by_example(own), strict=True)
    ]
    if made.picked:
        scores["samples"], of_rows = summarise_samples(made, evaluated.groups, asked.picks)
        extras = [extra | of_row for extra, of_row in zip(extras, of_rows, strict=True)]
    scored = write_predictions(folder, key.to_json(), [each.to_row() for each in first], extras)
    # So that `revinst compare` can set the base beside any run; an evaluation of the base itself has more scores.
    if asked.use_adapter and not (base_folder / "scores.json").is_file():
        of_base = [
            {"group": group} | found
            for group, found in zip(evaluated.groups, by_example(baselines["base"]), strict=True)
        ]
        key = predictor.key(False, asked.of_one(predictor.settings))
        write_predictions(base_folder, key.to_json(), [each.to_row() for each in made.base], of_base)
    write_json(folder / "scores.json", scores)
    run, tuned = predictor.trained.run, "tuned" if asked.use_adapter else "base"
    facts, curves = describe_evaluation(predictor, asked), read_curves(run.metrics) if run else {}
    write_report(folder / "report.html", predictor.title, scores, scored, facts=facts, curves=curves, tuned=tuned)
    return scores


def predict_all(
    predictor: Predictor, folder: Path, base_folder: Path, asked: EvaluationSettings, responder: Predictor | None
) -> Made:
    use_adapter, settings = asked.use_adapter, asked.of_one(predictor.settings)
    written: list[Written] = []
    picked: list[Picked] = []
    if asked.picks.samples == 1:
        first = predictor.predict(folder, use_adapter)
    else:
        written = predictor.sample(folder / "samples.jsonl", asked.picks.samples, True, use_adapter)
        picked = predictor.pick(written, asked.picks)
        first = [predictor.to_prediction(number, each.taken) for number, each in enumerate(picked)]
    base = predictor.predict(base_folder, False, settings) if use_adapter or written else first
    likelihoods = measure_likelihoods(predictor, first, use_adapter, asked.with_likelihoods, responder)
    return Made(first, base, likelihoods, written, picked)


def score_systems(
    predictor: Predictor, evaluated: EvaluatedExamples, made: Made, encoder: str | None
) -> dict[str, ExampleScores]:
    """Scores of the model that is evaluated (`own`) and of each baseline."""
    first = made.first
    texts = {"own": [each.prediction for each in first], "base": [each.prediction for each in made.base]}
    texts |= evaluated.build_baselines()
    lines = prompt_lines(predictor.trained.template)
    systems = {
        name: score_texts(found, predictor.examples, lines)
        for name, found in track(texts.items(), "scores", "systems", brief=True)
    }
    systems["own"] |= score_ends(first) | made.likelihoods
    systems["base"] |= score_ends(made.base)
    if encoder is not None:
        for name, meaning in measure_meaning(encoder, texts, [each.reference for each in first]).items():
            systems[name]["semantic"] = meaning
    return systems


def place_base(predictor: Predictor, folder: Path, settings: GenerationSettings) -> Path:
    """The subfolder for what the untouched base writes for the same examples."""
    return predictor.ranks.on_first(lambda: place_evaluation(predictor.key(False, settings), folder, "base"))


def score_ends(predictions: Sequence[Prediction]) -> ExampleScores:
    return {"eos": np.array([float(each.stopped == "eos") for each in predictions])}


def measure_meaning(encoder: str, texts: dict[str, list[str]], references: list[str]) -> dict[str, np.ndarray]:
    """Similarity of each system's texts to the references; float64 `[examples]` by system."""
    from revinst.evaluation.embedding import semantic_similarity

    found = semantic_similarity(encoder, list(chain(*texts.values())), references * len(texts))
    return dict(zip(texts, np.split(found, len(texts)), strict=True))


def describe_metrics(predictor: Predictor, evaluated: EvaluatedExamples, encoder: str | None) -> dict[str, Any]:
    references = [example.instruction for example in predictor.examples]
    described = metric_settings(prompt_lines(predictor.trained.template), references)
    # floors: what older files call the baselines
    described["floors"] = {"from": "training rows" if evaluated.train is not None else "the other half of the rows"}
    described["logp"] = {"unit": "nats", "of": "the instruction and EOS, given the response"}
    described["semantic"] = {"of": "cosine to the reference", "encoder": encoder} if encoder else "no --semantic"
    return described


def summarise_samples(
    made: Made, groups: list[str], picks: PickSettings
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """For scores.json and for each row. self_agreement: mean likeness of an example's samples; gain: of consensus over
    the greedy text, paired.
    """
    votes = [each.votes for each in made.picked]
    found = score_samples(made.written, votes, [each.reference for each in made.first])
    numbers = number_groups(groups)
    by_use = {name: summarise_metrics(scores, numbers, seed=0) for name, scores in found.scores.items()}
    agreement = summarise_metrics({"self_agreement": np.array([np.mean(each) for each in votes])}, numbers, seed=0)
    gain = compare_to_baselines({"greedy": found.scores["greedy"]}, found.scores["consensus"], numbers, seed=0)
    rows = [
        picked.describe(written, picks) | {f"pick_{name}": int(of_rows[row]) for name, of_rows in found.picked.items()}
        for row, (picked, written) in enumerate(zip(made.picked, made.written, strict=True))
    ]
    return {"k": picks.samples, "utility": picks.utility} | by_use | agreement | {"gain": gain["greedy"]}, rows
