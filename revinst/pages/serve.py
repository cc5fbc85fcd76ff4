"""A page served on this machine alone, by gradio, an extra."""

import os
from types import ModuleType
from typing import Any

from revinst.errors import UserError

CSS = """
textarea, #candidates p { unicode-bidi: plaintext; text-align: start }  /* Arabic and Hebrew from right to left */
#candidates ol { list-style: none; margin: 0; padding: 0 }
#candidates li { border: 1px solid var(--border-color-primary); border-radius: 6px; padding: .6rem .8rem }
#candidates li { margin: .5rem 0 }
#candidates .picked { border: 2px solid var(--color-accent) }
#candidates p { display: block; margin: 0 0 .2rem; font-size: 1.05rem; overflow-wrap: anywhere }
#candidates small { display: block; opacity: .8; font-size: .87rem }
@media (max-width: 40rem) { h1 { font-size: 1.4rem !important } }
"""
HOST = "127.0.0.1"  # nobody else's machine: the page has no password


def load_gradio() -> ModuleType:
    """The extra, untyped. Raises UserError where it is not installed. Its analytics are off before it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError:
        raise UserError("the page needs gradio: pip install 'revinst[demo]'") from None
    return gradio


def build_head(question: str, title: str, base: str) -> str:
    """As Markdown: what the page is for, and which run answers."""
    return f"# {question}\n`{title}`, trained from `{base}`"


def serve(gradio: ModuleType, page: Any, port: int | None, block: bool = True) -> str:
    """Serves the page until interrupted, or in the background; returns its address."""
    # System fonts: the default theme asks a font server.
    theme = gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    where = {"server_name": HOST, "server_port": port, "share": False, "quiet": True}
    _, url, _ = page.launch(**where, theme=theme, css=CSS, prevent_thread_lock=True, footer_links=[], show_error=True)
    print(f"{url}   (Ctrl-C ends it)", flush=True)
    if block:
        page.block_thread()
    return url
