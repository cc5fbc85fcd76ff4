"""A page served on this machine alone, by gradio, an extra."""

import os
from types import ModuleType
from typing import Any

from revinst.errors import UserError

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


def serve(gradio: ModuleType, page: Any, port: int | None, block: bool = True) -> str:
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
