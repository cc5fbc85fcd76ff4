"""An instruction in, texts out: for a run that writes as its owner does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch

from revinst.data.examples import Example, build_text
from revinst.data.formats import BadRecord
from revinst.data.redacted import restore
from revinst.errors import UserError
from revinst.inference.engine.engine import Engine
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.trained import Trained
from revinst.model.network import Network
from revinst.pages.serve import build_head

MAX_TEXTS = 4


class LetterWriter:
    """Writes texts for one instruction after the other.

    placeholders: of a redacted corpus; what these stand for is put back.
    """

    def __init__(
        self,
        trained: Trained,
        network: Network,
        settings: GenerationSettings,
        placeholders: Mapping[str, str] | None = None,
    ):
        self.trained, self.network, self.settings = trained, network, settings
        self.placeholders = placeholders or {}

    def write(self, instruction: str, context: str, count: int, temperature: float, max_new_tokens: int) -> list[str]:
        """As many texts, each another sample; at temperature 0 one. Raises BadRecord or UserError for what can't be."""
        example = replace(build_text(instruction, False, field="instruction"), context=context.strip())
        settings = replace(self.settings, temperature=temperature, max_new_tokens=max_new_tokens)
        ids = self.trained.encode_to_generate([example], max_new_tokens).ids * (count if temperature else 1)
        engine = Engine(self.network, self.trained.tokenizer, settings, self.trained.template.headers)
        written = sorted(engine.generate(ids, samples=list(range(len(ids)))), key=lambda each: each[0])
        texts = [self.trained.tokenizer.decode(generated.token_ids).strip() for _, generated in written]
        return [restore(text, self.placeholders) for text in texts]


def build_page(gradio: ModuleType, writer: LetterWriter, examples: Sequence[Example], title: str) -> Any:
    """examples: to try it with."""

    def answer(instruction: str, context: str, count: float, temperature: float, tokens: float) -> list[object]:
        try:
            with torch.inference_mode():
                texts = writer.write(instruction, context, int(count), temperature, int(tokens))
        except (BadRecord, UserError) as reason:
            raise gradio.Error(str(reason)) from None
        shown: list[object] = [gradio.Textbox(value=text, visible=True) for text in texts]
        return shown + [gradio.Textbox(value="", visible=False)] * (MAX_TEXTS - len(texts))

    trained = writer.trained
    with gradio.Blocks(title=f"revinst: {title}", analytics_enabled=False) as page:
        gradio.Markdown(build_head("What shall it write?", title, trained.base))
        instruction = gradio.Textbox(label="Instruction", lines=3, max_lines=10, elem_id="instruction")
        context = gradio.Textbox(label="What it answers", lines=3, visible=trained.saw_contexts, elem_id="context")
        tries = [[each.instruction, each.context] for each in examples]
        gradio.Examples(tries, [instruction, context], label="To try", elem_id="examples", cache_examples=False)
        with gradio.Row():
            count = gradio.Slider(1, MAX_TEXTS, value=1, step=1, label="Texts")
            temperature = gradio.Slider(0, 1.5, value=0.7, step=0.1, label="Temperature (0: always the likeliest word)")
            longest = gradio.Slider(16, trained.seq_len // 2, value=trained.new_tokens, step=1, label="Tokens at most")
        button = gradio.Button("Write", variant="primary", elem_id="write")
        texts = [
            gradio.Textbox(label=f"Text {number + 1}", lines=6, visible=not number, elem_id=f"text-{number + 1}")
            for number in range(MAX_TEXTS)
        ]
        button.click(answer, [instruction, context, count, temperature, longest], texts, api_name=False)
    return page
