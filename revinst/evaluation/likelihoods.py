"""What likelihoods tell beside the texts: the loss, and how much an instruction helps to write its text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from revinst.data.prompt import load_template
from revinst.evaluation.scores import ExampleScores
from revinst.inference.predictions import Prediction
from revinst.inference.predictor import Predictor

SHUFFLE_SEED = 0


def measure_likelihoods(
    predictor: Predictor,
    predictions: Sequence[Prediction],
    use_adapter: bool,
    everything: bool,
    responder: Predictor | None = None,
) -> ExampleScores:
    """log p of the references, which the held-out loss needs anyway; of the predictions and the round trip if asked."""
    found = {"logp_reference": predictor.log_p(use_adapter)}
    if everything:
        texts = [each.prediction for each in predictions]
        found["logp_prediction"] = predictor.log_p(use_adapter, texts)
        found |= round_trip(predictor, texts, responder)
    return found


def round_trip(predictor: Predictor, predictions: Sequence[str], responder: Predictor | None = None) -> ExampleScores:
    """How many nats an instruction adds to log p(response): under `responder`, of a run that writes responses.

    None: the untouched base and the forward template. The instructions are the prediction, the reference, and another
    example's reference; each against an empty one.
    """
    scorer, tuned = responder or predictor, responder is not None
    template = responder.trained.template if responder else load_template("forward")
    references = [example.instruction for example in predictor.examples]
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(references))
    shuffled = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    instructions = {
        "gain_prediction": predictions,
        "gain_reference": references,
        "gain_shuffled": [references[shuffled[number]] for number in range(len(references))],
    }
    alone = scorer.log_p(tuned, [""] * len(references), template=template, title="log p(response)")
    return {
        name: scorer.log_p(tuned, texts, template=template, title=f"log p(response), {name}") - alone
        for name, texts in instructions.items()
    }


def describe_gain(predictor: Predictor, responder: Predictor | None) -> dict[str, Any]:
    return {
        "unit": "nats",
        "of": "log p(response | instruction) - log p(response | empty instruction)",
        "model": responder.title if responder else predictor.trained.base,
        "adapter": responder.trained.key.adapter if responder else None,
        "template": (responder.trained.template if responder else load_template("forward")).hash,
        "shuffle_seed": SHUFFLE_SEED,
    }


def loss_per_token(predictor: Predictor, log_p: np.ndarray) -> float | None:
    """-log p per target token over the examples whose reference fits."""
    fits = ~np.isnan(log_p)
    num_targets = predictor.count_targets()[fits].sum()
    return float(-log_p[fits].sum() / num_targets) if num_targets else None
