"""`revinst demo`: a page on this machine to try a run: a text in, instructions with scores and the nearest row out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from revinst.data.encoding import encode_to_generate
from revinst.data.examples import Example, build_text
from revinst.data.overlap import nearest_rows
from revinst.data.prompt import load_template, render_prompt
from revinst.data.sources import BadRow
from revinst.data.tokenizer import load_tokenizer
from revinst.errors import UserError
from revinst.evaluation.samples import agree
from revinst.inference.engine.engine import GenerationSettings, generate_batches
from revinst.inference.options import build_parser
from revinst.inference.trained import Trained, open_trained
from revinst.system import quiet_libraries

ADDRESS = "127.0.0.1"  # nobody else's machine: the page has no password
MAX_CANDIDATES = 16


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instruction. log_p: nats a token, EOS included, under the model itself. agreement: mean ROUGE-L to all
    others that were written, equal ones among them; 1.0 where there is no other.
    """

    instruction: str
    how: str
    log_p: float
    agreement: float


class Writer:
    """The run's model, loaded once, and its training rows."""

    def __init__(self, trained: Trained, train: Sequence[Example], settings: GenerationSettings):
        self.trained, self.train, self.settings = trained, train, settings
        self.responses = [example.response for example in train]
        self.tokenizer = load_tokenizer(trained.base)
        self.template = load_template(trained.template, self.tokenizer.hf)
        if self.template.target != "instruction":
            raise UserError(f"trained to write the {self.template.target} (data.template), not instructions")
        self.network = trained.load(settings)

    def write(self, text: str, count: int, temperature: float) -> list[Candidate]:
        """The greedy instruction and `count - 1` samples, equal ones once, the greedy one first, then by agreement.

        Raises BadRow for a text that `fit` would not have taken.
        """
        prompt = render_prompt(self.template, build_text(text, self.trained.strip_citations))
        ids, _ = encode_to_generate(
            [prompt], self.template, self.tokenizer, self.trained.seq_len, self.settings.max_new_tokens,
            cut=self.trained.cut,
        )  # fmt: skip
        found: dict[str, tuple[str, float]] = {}
        written = []
        settings = replace(self.settings, temperature=temperature)
        samples = [None, *range(1, count)]
        rows = generate_batches(
            self.network, self.tokenizer, ids * count, settings, headers=self.template.headers, samples=samples
        )
        for sample, (_, generated) in enumerate(sorted(rows, key=lambda row: row[0])):
            text = self.tokenizer.decode(generated.token_ids).strip()
            tokens = len(generated.token_ids) + (generated.stopped == "eos")
            written.append(text)
            found.setdefault(text, (f"sample {sample}" if sample else "greedy", generated.log_p / max(tokens, 1)))
        agreement = dict(zip(written, agree(written), strict=True))
        candidates = [Candidate(text, how, log_p, agreement[text]) for text, (how, log_p) in found.items()]
        return sorted(candidates, key=lambda candidate: (candidate.how != "greedy", -candidate.agreement))

    def find_nearest(self, text: str) -> tuple[Example, float] | None:
        """The training row whose response is most like the text, and their similarity (character 5-grams)."""
        if not self.train:
            return None
        prepared = build_text(text, self.trained.strip_citations).response
        (row,), (similarity,) = nearest_rows([prepared], self.responses)
        return (self.train[int(row)], float(similarity)) if row >= 0 else None


def main(args: list[str]) -> int:
    parser = build_parser("demo", "A page on this machine (127.0.0.1) to try a run.")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument("--max_new_tokens", type=int, default=100)
    options = parser.parse_args(args)
    gradio = load_gradio()
    settings = GenerationSettings(max_new_tokens=options.max_new_tokens)
    quiet_libraries()
    trained = open_trained(options.run, options.unfinished, options)
    writer = Writer(trained, load_training_rows(trained), settings)
    page = build_page(gradio, writer, options.run)
    try:
        launch(gradio, page, options.port)
    except OSError as error:
        raise UserError(f"--port {options.port}: {error}") from None
    return 0


def load_gradio() -> Any:
    """Raises UserError where the extra is not installed. Gradio's analytics are off before it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError:
        raise UserError("the page needs gradio: pip install gradio") from None
    return gradio


def load_training_rows(trained: Trained) -> Sequence[Example]:
    """Those of the run; of a bare adapter nobody knows them."""
    if trained.config is None or trained.run is None:
        return []
    from revinst.data.datamodule import build_data
    from revinst.data.split import read_split, select_examples

    return select_examples(build_data(trained.config).load_examples(), read_split(trained.run.split).train)


def build_page(gradio: Any, writer: Writer, title: str) -> Any:
    """A text box, the candidates as a table, and the nearest training row."""

    def answer(text: str, count: float, temperature: float) -> tuple[list[list[str]], str]:
        if not text.strip():
            raise gradio.Error("Enter a text first.")
        try:
            with torch.inference_mode():
                candidates = writer.write(text, int(count), temperature)
        except BadRow as reason:
            raise gradio.Error(str(reason)) from None
        rows = [[c.instruction, c.how, f"{c.log_p:.2f}", f"{c.agreement:.2f}"] for c in candidates]
        return rows, describe_nearest(writer.find_nearest(text))

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


def launch(gradio: Any, page: Any, port: int | None, block: bool = True) -> str:
    """Serves the page until interrupted, or in the background; returns its address."""
    # System fonts: the default theme asks a font server.
    theme = gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    _, url, _ = page.launch(
        server_name=ADDRESS,
        server_port=port,
        share=False,
        theme=theme,
        quiet=True,
        prevent_thread_lock=True,
        footer_links=[],
        show_error=True,
    )
    print(f"{url}   (Ctrl-C ends it)", flush=True)
    if block:
        page.block_thread()
    return url
