"""What the tests of the documents share: a tiny random base, and an environment without network or GPU."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART_MODEL = ROOT / "models" / "smollm2-135m"


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Llama of 2 layers, with the quickstart model's tokenizer."""
    if not (QUICKSTART_MODEL / "tokenizer.json").is_file():
        pytest.skip("models/smollm2-135m is missing: run `make setup`")
    from tests.tiny import write_tiny_llama

    # at the usual 0.02 every token is equally likely, and changes of the loss drown
    options = {"initializer_range": 0.1, "tie_word_embeddings": True}
    return write_tiny_llama(tmp_path_factory.mktemp("tiny-base"), QUICKSTART_MODEL, **options)


@pytest.fixture(scope="session")
def offline_cpu() -> dict[str, str]:
    """The environment of a subprocess: no network, no GPU, no threads that a fork would lose."""
    return os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
