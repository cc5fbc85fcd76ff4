"""A text in, instructions with scores and the nearest training row out."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch

from revinst.corpus.candidates import Writer
from revinst.data.audit import find_nearest
from revinst.data.examples import Example
from revinst.data.formats import BadRecord

MAX_CANDIDATES = 16


def build_page(gradio: ModuleType, writer: Writer, train: Sequence[Example], title: str) -> Any:
    """A text box, the candidates as a table, and the nearest training row."""

    def answer(text: str, count: float, temperature: float) -> tuple[list[list[str]], str]:
        if not text.strip():
            raise gradio.Error("Enter a text first.")
        try:
            with torch.inference_mode():
                found = writer.suggest(text, int(count), temperature)
        except BadRecord as reason:
            raise gradio.Error(str(reason)) from None
        rows = [[c.instruction, c.how, f"{c.log_p / c.num_tokens:.2f}", f"{agreement:.2f}"] for c, agreement in found]
        return rows, describe_nearest(find_nearest(writer.prepare(text), train))

    with gradio.Blocks(title=f"revinst: {title}", analytics_enabled=False) as page:
        gradio.Markdown("# Which instruction could have produced this text?")
        text = gradio.Textbox(label="Text", lines=8, max_lines=30, elem_id="text")
        with gradio.Row():
            count = gradio.Slider(1, MAX_CANDIDATES, value=4, step=1, label="Candidates")
            temperature = gradio.Slider(0.1, 2.0, value=0.8, step=0.1, label="Temperature of the samples")
        button = gradio.Button("Write instructions", variant="primary", elem_id="write")
        headers = ["instruction", "how", "log p a token", "agreement (ROUGE-L)"]
        table = gradio.Dataframe(headers=headers, interactive=False, wrap=True, elem_id="candidates")
        nearest = gradio.Textbox(label="Nearest training row", interactive=False, lines=6, elem_id="nearest")
        button.click(answer, [text, count, temperature], [table, nearest], api_name=False)
    return page


def describe_nearest(found: tuple[Example, float] | None) -> str:
    if found is None:
        return "none is alike, or the training rows are not known"
    example, similarity = found
    return f"similarity {similarity:.2f}\n\nInstruction: {example.instruction}\n\nResponse: {example.response}"
