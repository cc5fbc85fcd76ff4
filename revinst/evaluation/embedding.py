"""Similarity in meaning, by a sentence-embedding model in a local folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from revinst.errors import UserError
from revinst.runs.files import read_json


@torch.no_grad()
def embed_texts(folder: Path, texts: Sequence[str], batch_size: int = 64, max_tokens: int = 256) -> np.ndarray:
    """Unit vectors, float32 `[texts, width]`: the mean over tokens of a BERT-like encoder's last layer.

    That is how sentence-transformers reads models whose pooling is `mean`; raises UserError for other folders.
    """
    from transformers import AutoModel, AutoTokenizer

    check_encoder(folder)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # texts of a length share a batch
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer(
            [texts[row] for row in rows], padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        )
        hidden = model(**batch).last_hidden_state  # [batch, tokens, width]
        mask = batch["attention_mask"][..., None]
        mean = (hidden * mask).sum(1) / mask.sum(1)  # [batch, width]
        vectors[rows] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    return vectors


def check_encoder(folder: Path) -> None:
    """Raises UserError for a folder that `embed_texts` can't read."""
    if not (folder / "config.json").is_file():
        raise UserError(f"--semantic {folder}: no model there (config.json); give the folder of a sentence encoder")
    pooling = folder / "1_Pooling" / "config.json"
    if pooling.is_file() and not read_json(pooling).get("pooling_mode_mean_tokens"):
        raise UserError(f"--semantic {folder}: its pooling is not the mean over tokens, which is all we read")


def semantic_similarity(folder: Path, predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Cosine of each prediction with its reference, float64 `[rows]`; an empty prediction has none: NaN."""
    distinct = list(dict.fromkeys([*predictions, *references]))
    number = {text: row for row, text in enumerate(distinct)}
    vectors = embed_texts(folder, distinct).astype(np.float64)
    ours, theirs = (vectors[[number[text] for text in texts]] for texts in (predictions, references))
    cosine = (ours * theirs).sum(1)
    cosine[[not text.strip() for text in predictions]] = np.nan
    return cosine
