"""Similarity in meaning, by a sentence encoder in a local folder, read by sentence-transformers."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from revinst.errors import UserError


def embed_texts(folder: Path, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
    """Unit vectors, float32 `[texts, width]`, pooled and cut as the folder says; without a word there, the mean.

    On the CPU: the model that is evaluated may fill the GPU, and vectors stay the same on every machine.
    """
    check_encoder(folder)
    from sentence_transformers import SentenceTransformer

    try:
        encoder = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except Exception as error:  # what is missing or wrong in it fails where it is read, in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"--semantic {folder}: no sentence encoder that can be read ({reason})") from error
    vectors = encoder.encode(list(texts), batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False)
    assert isinstance(vectors, np.ndarray)
    return vectors


def check_encoder(folder: Path) -> None:
    """Raises UserError for a folder without a model, or where the library that reads it is not installed."""
    if not any((folder / name).is_file() for name in ("modules.json", "config.json")):
        raise UserError(f"--semantic {folder}: no model there (modules.json); give the folder of a sentence encoder")
    if find_spec("sentence_transformers") is None:
        raise UserError("--semantic needs sentence-transformers: pip install 'revinst[semantic]'")


def semantic_similarity(folder: Path, predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Cosine of each prediction with its reference, float64 `[texts]`; an empty prediction has none: NaN."""
    distinct = list(dict.fromkeys([*predictions, *references]))
    number = {text: place for place, text in enumerate(distinct)}
    vectors = embed_texts(folder, distinct).astype(np.float64)
    ours, theirs = (vectors[[number[text] for text in texts]] for texts in (predictions, references))
    cosine = (ours * theirs).sum(1)
    cosine[[not text.strip() for text in predictions]] = np.nan
    return cosine
