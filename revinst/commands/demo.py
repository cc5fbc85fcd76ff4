"""`revinst demo`: a page on this machine to try a run: a text in, instructions with scores and the nearest row out."""

import os
from collections.abc import Sequence
from typing import Any

import torch

from revinst.commands.options import build_run_parser, read_stated
from revinst.corpus.candidates import Writer
from revinst.data.audit import find_nearest
from revinst.data.examples import Example
from revinst.data.formats import BadRecord
from revinst.data.split import read_split, select_examples
from revinst.errors import UserError
from revinst.inference.engine.engine import GenerationSettings
from revinst.inference.trained import open_trained
from revinst.system import quiet_libraries

HOST = "127.0.0.1"  # nobody else's machine: the page has no password
MAX_CANDIDATES = 16


def main(args: list[str]) -> int:
    parser = build_run_parser("demo", "A page on this machine (127.0.0.1) to try a run.")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument("--max_new_tokens", type=int, default=100)
    options = parser.parse_args(args)
    gradio = load_gradio()
    settings = GenerationSettings(max_new_tokens=options.max_new_tokens)
    quiet_libraries()
    trained = open_trained(options.run, options.unfinished, read_stated(options))
    trained.check_writes_instructions()
    train = select_examples(trained.load_examples(), read_split(trained.run.split).train) if trained.run else []
    page = build_page(gradio, Writer(trained, trained.load(settings), settings), train, options.run)
    try:
        serve(gradio, page, options.port)
    except OSError as error:
        raise UserError(f"--port {options.port}: {error}") from None
    return 0


def load_gradio() -> Any:
    """The extra, untyped. Raises UserError where it is not installed. Its analytics are off before it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError:
        raise UserError("the page needs gradio: pip install gradio") from None
    return gradio


def build_page(gradio: Any, writer: Writer, train: Sequence[Example], title: str) -> Any:
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


def serve(gradio: Any, page: Any, port: int | None, block: bool = True) -> str:
    """Serves the page until interrupted, or in the background; returns its address."""
    # System fonts: the default theme asks a font server.
    theme = gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    css = "textarea, td { unicode-bidi: plaintext; text-align: start }"  # Arabic and Hebrew from right to left
    where = {"server_name": HOST, "server_port": port, "share": False, "quiet": True}
    _, url, _ = page.launch(**where, theme=theme, css=css, prevent_thread_lock=True, footer_links=[], show_error=True)
    print(f"{url}   (Ctrl-C ends it)", flush=True)
    if block:
        page.block_thread()
    return url
