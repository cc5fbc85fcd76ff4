"""A text in, instructions with scores and the nearest training row out."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch

from revinst.config.words import PICKS
from revinst.corpus.candidates import Writer
from revinst.data.audit import find_nearest
from revinst.data.examples import Example
from revinst.data.formats import BadRecord
from revinst.inference.picks import NUM_SAMPLES, TEMPERATURE, PickSettings
from revinst.inference.samples import Candidate

HEADERS = ["instruction", "how", "times", "log p a token", "agreement"]


def build_page(gradio: ModuleType, writer: Writer, train: Sequence[Example], title: str) -> Any:
    """A text box, the candidates as a table with the one that is picked first, and the nearest training row."""

    def answer(text: str, count: float, temperature: float, pick: str) -> tuple[list[list[str]], str]:
        if not text.strip():
            raise gradio.Error("Enter a text first.")
        try:
            with torch.inference_mode():
                found = writer.suggest(text, PickSettings(int(count), pick), temperature)
        except BadRecord as reason:
            raise gradio.Error(str(reason)) from None
        rows = [describe_candidate(place, each) for place, each in enumerate(found)]
        return rows, describe_nearest(find_nearest(writer.prepare(text), train))

    usual = NUM_SAMPLES.get(writer.network.device.type, NUM_SAMPLES["cpu"])
    with gradio.Blocks(title=f"revinst: {title}", analytics_enabled=False) as page:
        gradio.Markdown("# Which instruction could have produced this text?")
        text = gradio.Textbox(label="Text", lines=8, max_lines=30, elem_id="text")
        with gradio.Row():
            count = gradio.Slider(2, max(NUM_SAMPLES.values()), value=usual, step=1, label="Samples")
            temperature = gradio.Slider(0.1, 2.0, value=TEMPERATURE, step=0.1, label="Temperature of the samples")
            pick = gradio.Dropdown(list(PICKS), value="consensus", label="Picked by")
        button = gradio.Button("Write instructions", variant="primary", elem_id="write")
        table = gradio.Dataframe(headers=HEADERS, interactive=False, wrap=True, elem_id="candidates")
        nearest = gradio.Textbox(label="Nearest training row", interactive=False, lines=6, elem_id="nearest")
        button.click(answer, [text, count, temperature, pick], [table, nearest], api_name=False)
    return page


def describe_candidate(place: int, candidate: Candidate) -> list[str]:
    how = "greedy" if candidate.number is None else f"sample {candidate.number + 1}"
    votes = "-" if candidate.votes is None else f"{candidate.votes:.2f}"
    picked = ", picked" * (not place)
    return [
        candidate.sample.text,
        how + picked,
        str(candidate.times),
        f"{candidate.sample.log_p_a_token:.2f}",
        votes,
    ]


def describe_nearest(found: tuple[Example, float] | None) -> str:
    if found is None:
        return "none is alike, or the training rows are not known"
    example, similarity = found
    return f"similarity {similarity:.2f}\n\nInstruction: {example.instruction}\n\nResponse: {example.response}"
