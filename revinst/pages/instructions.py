"""A text in, instructions with scores and the nearest training row out."""

from collections.abc import Sequence
from html import escape
from types import ModuleType
from typing import Any

import torch

from revinst.config.words import PICKS
from revinst.corpus.candidates import Writer
from revinst.data.audit import find_nearest
from revinst.data.examples import Example
from revinst.data.formats import BadRecord
from revinst.evaluation.report import count
from revinst.inference.picks import NUM_SAMPLES, TEMPERATURE, PickSettings
from revinst.inference.samples import Candidate
from revinst.pages.serve import build_head

LEGEND = """
- **greedy**: takes the likeliest token each time; **sample**: drawn at the temperature
- **in 3 samples**: three of the samples are this text
- **log p a token**: how likely the model finds it, in nats; nearer to 0 is likelier
- **agreement**: how much it is like the other samples, from 0 to 1
- picked by **consensus**: the sample that agrees most; **likelihood**: the likeliest a token; **round_trip**: the one
  that makes the text likeliest under the base; **greedy**: the greedy text
"""


def build_page(
    gradio: ModuleType, writer: Writer, train: Sequence[Example], examples: Sequence[Example], title: str
) -> Any:
    """A text box, the candidates with the one that is picked first, and the nearest training row.

    examples: to try it with.
    """

    def answer(text: str, samples: float, temperature: float, pick: str) -> tuple[str, str]:
        if not text.strip():
            raise gradio.Error("Enter a text first.")
        try:
            with torch.inference_mode():
                found = writer.suggest(text, PickSettings(int(samples), pick), temperature)
        except BadRecord as reason:
            raise gradio.Error(str(reason)) from None
        return write_candidates(found), describe_nearest(find_nearest(writer.prepare(text), train))

    usual = NUM_SAMPLES.get(writer.network.device.type, NUM_SAMPLES["cpu"])
    with gradio.Blocks(title=f"revinst: {title}", analytics_enabled=False) as page:
        gradio.Markdown(build_head("Which instruction could have produced this text?", title, writer.trained.base))
        text = gradio.Textbox(label="Text", lines=6, max_lines=30, elem_id="text")
        texts = [[each.response] for each in examples]
        gradio.Examples(texts, [text], label="Texts to try", elem_id="examples", cache_examples=False)
        with gradio.Row():
            samples = gradio.Slider(2, max(NUM_SAMPLES.values()), value=usual, step=1, label="Samples")
            temperature = gradio.Slider(0.1, 2.0, value=TEMPERATURE, step=0.1, label="Temperature of the samples")
            pick = gradio.Dropdown(list(PICKS), value="consensus", label="Picked by")
        button = gradio.Button("Write instructions", variant="primary", elem_id="write")
        candidates = gradio.HTML(elem_id="candidates")
        gradio.Markdown(LEGEND, elem_id="legend")
        nearest = gradio.Textbox(label="Nearest training row", interactive=False, lines=6, elem_id="nearest")
        button.click(answer, [text, samples, temperature, pick], [candidates, nearest], api_name=False)
    return page


def write_candidates(found: Sequence[Candidate]) -> str:
    """As HTML; the texts are escaped."""
    items = []
    for place, candidate in enumerate(found):
        text, how, _, log_p, votes = map(escape, describe_candidate(place, candidate))
        said = f"{how} · in {count('sample', candidate.times)} · log p a token {log_p} · agreement {votes}"
        items.append(
            f'<li{" class=picked" * (not place)}><p dir="auto">{text or "(empty)"}</p><small>{said}</small></li>'
        )
    return f"<ol>{''.join(items)}</ol>"


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
