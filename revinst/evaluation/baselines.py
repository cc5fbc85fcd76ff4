"""Floors: what no trained model is needed for. A score means something only above them."""

from collections.abc import Sequence

import numpy as np

NUM_WORDS = 7


def random_instruction(responses: Sequence[str], train_instructions: Sequence[str], seed: int = 0) -> list[str]:
    """Another row's instruction, drawn from the training part."""
    picks = np.random.default_rng(seed).integers(len(train_instructions), size=len(responses))
    return [train_instructions[pick] for pick in picks]


def lead_words(responses: Sequence[str]) -> list[str]:
    """The response's first words."""
    return [" ".join(response.split()[:NUM_WORDS]) for response in responses]


def what_is(responses: Sequence[str]) -> list[str]:
    """`What is` and the response's first words: most instructions are questions about what the text names first."""
    return [f"What is {lead}?" for lead in lead_words(responses)]


def build_baselines(responses: Sequence[str], train_instructions: Sequence[str]) -> dict[str, list[str]]:
    """Name -> a prediction for each response. The untouched base, the fourth floor, needs a model."""
    return {
        "random_instruction": random_instruction(responses, train_instructions),
        "lead_words": lead_words(responses),
        "what_is": what_is(responses),
    }
