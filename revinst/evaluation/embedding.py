"""Similarity in meaning, by a sentence encoder, read by sentence-transformers: a local folder or a hub id."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from revinst.data.tokenizer import looks_local
from revinst.errors import UserError
from revinst.model.hardware import pick_device

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LIKENESS_PROMPT = "STS"  # of encoders that have a prompt for each use: semantic textual similarity


def embed_texts(encoder: str, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
    """Unit vectors, float32 `[texts, width]`, with the prompt, pooling and length that the encoder's own files name.

    On the GPU if there is one with room beside the model that is evaluated.
    """
    import torch

    check_encoder(encoder)
    try:
        return encode(load_encoder(encoder, pick_device().type), texts, batch_size)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
    print("--semantic: no room on the GPU; the encoder runs on the CPU", file=sys.stderr)
    return encode(load_encoder(encoder, "cpu"), texts, batch_size)


def load_encoder(encoder: str, device: str) -> "SentenceTransformer":
    import torch
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(encoder, device=device, local_files_only=looks_local(encoder))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # what is missing or wrong in it fails where it is read, in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"--semantic {encoder}: no sentence encoder that can be read ({reason})") from error


def encode(encoder: "SentenceTransformer", texts: Sequence[str], batch_size: int) -> np.ndarray:
    has_own = encoder.default_prompt_name is None and encoder.prompts.get(LIKENESS_PROMPT)
    vectors = encoder.encode(
        list(texts),
        prompt_name=LIKENESS_PROMPT if has_own else None,
        batch_size=batch_size,
        normalize_embeddings=True,
        show_progress_bar=False,
    )
    assert isinstance(vectors, np.ndarray)
    return vectors.astype(np.float32)


def check_encoder(encoder: str) -> None:
    """Raises UserError where there is no such encoder, or the library that reads it is not installed."""
    folder = Path(encoder).expanduser()
    if looks_local(encoder) and not any((folder / name).is_file() for name in ("modules.json", "config.json")):
        raise UserError(
            f"--semantic {encoder}: no model there (modules.json); give a sentence encoder's folder, or its hub id"
        )
    if find_spec("sentence_transformers") is None:
        raise UserError("--semantic needs sentence-transformers: pip install 'revinst[semantic]'")
    if not looks_local(encoder):
        check_hub(encoder)


def check_hub(encoder: str) -> None:
    """Before anything is written for the rows. Raises UserError where neither the Hub nor its cache has it."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        hf_hub_download(encoder, "modules.json")
    except Exception as error:  # of the hub client, of the network, of a name that is none
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return  # a model without it is read as well, with the mean of its states
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"--semantic {encoder}: can't be loaded ({reason}); it is no folder here, so it was taken for a hub id"
        ) from error


def semantic_similarity(encoder: str, predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Cosine of each prediction with its reference, float64 `[texts]`; an empty prediction has none: NaN."""
    distinct = list(dict.fromkeys([*predictions, *references]))
    number = {text: place for place, text in enumerate(distinct)}
    vectors = embed_texts(encoder, distinct).astype(np.float64)
    ours, theirs = (vectors[[number[text] for text in texts]] for texts in (predictions, references))
    cosine = (ours * theirs).sum(1)
    cosine[[not text.strip() for text in predictions]] = np.nan
    return cosine
