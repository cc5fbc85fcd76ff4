"""What likelihoods tell beside the texts: the loss, and how much an instruction helps to write its text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from revinst.data.prompt import load_template
from revinst.inference.predictions import Prediction
from revinst.inference.predictor import Predictor

SHUFFLE_SEED = 0
RowScores = dict[str, np.ndarray]


def measure_likelihoods(
    predictor: Predictor,
    rows: Sequence[Prediction],
    use_adapter: bool,
    everything: bool,
    forward: Predictor | None = None,
) -> RowScores:
    """log p of the references, which the held-out loss needs anyway; of the predictions and the round trip if asked."""
    found = {"logp_reference": predictor.log_p(use_adapter)}
    if everything:
        texts = [row.prediction for row in rows]
        found["logp_prediction"] = predictor.log_p(use_adapter, texts)
        found |= round_trip(predictor, texts, forward)
    return found


def round_trip(predictor: Predictor, predictions: Sequence[str], forward: Predictor | None = None) -> RowScores:
    """How many nats an instruction adds to log p(response): under `forward`, of a run that writes responses.

    None: the untouched base and the forward template. The instructions are the prediction, the reference, and another
    row's reference; each against an empty one.
    """
    scorer, tuned = forward or predictor, forward is not None
    template = forward.trained.template if forward else load_template("forward")
    references = [example.instruction for example in predictor.examples]
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(references))
    shuffled = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    instructions = {
        "gain_prediction": predictions,
        "gain_reference": references,
        "gain_shuffled": [references[shuffled[row]] for row in range(len(references))],
    }
    alone = scorer.log_p(tuned, [""] * len(references), template=template, title="log p(response)")
    return {
        name: scorer.log_p(tuned, texts, template=template, title=f"log p(response), {name}") - alone
        for name, texts in instructions.items()
    }


def describe_gain(predictor: Predictor, forward: Predictor | None) -> dict[str, Any]:
    return {
        "unit": "nats",
        "of": "log p(response | instruction) - log p(response | empty instruction)",
        "model": forward.title if forward else predictor.trained.base,
        "adapter": forward.trained.key.adapter if forward else None,
        "template": (forward.trained.template if forward else load_template("forward")).hash,
        "shuffle_seed": SHUFFLE_SEED,
    }


def loss_per_token(predictor: Predictor, log_p: np.ndarray) -> float | None:
    """-log p per target token over the rows whose reference fits."""
    fits = ~np.isnan(log_p)
    num_targets = predictor.count_targets()[fits].sum()
    return float(-log_p[fits].sum() / num_targets) if num_targets else None
