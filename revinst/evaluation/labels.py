"""What an evaluation is called: the options that are not the defaults."""

from pathlib import Path

from revinst.inference.engine.engine import GenerationSettings
from revinst.model.hardware import choose_dtype, pick_device


def label_options(
    settings: GenerationSettings,
    *,
    use_adapter: bool = True,
    source: str | None = None,
    rows_hash: str = "",
    part: str = "heldout",
    step: int | None = None,
    limit: int | None = None,
    num_samples: int = 1,
) -> str:
    """For people: `val-step-000200-max-60`; "" for the defaults. rows_hash: of the rows of `source`."""
    parts = [] if use_adapter else ["base"]
    parts += [f"{Path(source).stem[:40]}-{rows_hash[:8]}"] if source else []
    parts += [part] if part != "heldout" else []
    parts += [f"step-{step:06d}"] if step is not None else []
    parts += [f"limit-{limit}"] if limit else []
    if settings.temperature:
        parts += [f"t{settings.temperature:g}-p{settings.top_p:g}-s{settings.seed}"]
        parts += [f"top-{settings.top_k}"] if settings.top_k else []
    parts += [f"k{num_samples}"] if num_samples > 1 else []
    parts += [f"max-{settings.max_new_tokens}"] if settings.max_new_tokens != 100 else []
    parts += [settings.precision] if settings.precision != choose_dtype(pick_device())[0] else []
    parts += [settings.engine] if settings.engine == "hf" else []
    return "-".join(parts)
