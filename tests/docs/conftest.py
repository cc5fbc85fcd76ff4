"""What the tests of the documents share: a tiny random base, and an environment without network or GPU."""

import os
import shutil
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
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.1,  # at the usual 0.02 every token is equally likely, and changes of the loss drown
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("tiny-base")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(QUICKSTART_MODEL / name, folder)
    return folder


@pytest.fixture(scope="session")
def offline_cpu() -> dict[str, str]:
    """The environment of a subprocess: no network, no GPU, no threads that a fork would lose."""
    return os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
