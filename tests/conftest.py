"""Fixtures shared by all tests. Nothing here goes to the network, and no test but the wide one of other readers."""

import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
# One thread a process (`make test` runs two): sums are then always taken in one order (property 1), and threads of
# tiny layers would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["REVINST_CACHE"] = tempfile.mkdtemp(prefix="revinst-test-cache-")

import json
import shutil
from pathlib import Path

import lightning  # noqa: F401  (its log handler keeps the stderr of its import, which a test's capture would close)
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def base() -> str:
    """Folder of the quickstart model."""
    folder = ROOT / "models" / "smollm2-135m"
    if not (folder / "config.json").is_file():
        pytest.skip("models/smollm2-135m is absent: run `make setup`")
    return str(folder)


@pytest.fixture(scope="session")
def dolly() -> str:
    """5,983 real rows, some of them duplicates."""
    path = ROOT.parent / "shared" / "data" / "dolly-6k.jsonl"
    if not path.is_file():
        pytest.skip("shared/data/dolly-6k.jsonl is not beside this checkout")
    return str(path)


@pytest.fixture(scope="session")
def smollm(base):
    """SmolLM2's tokenizer: byte-level BPE."""
    from revinst.data.tokenizer import load_tokenizer

    return load_tokenizer(base)


@pytest.fixture(scope="session")
def sentencepiece_folder(tmp_path_factory) -> Path:
    """A tokenizer built as Llama 2's is: SentencePiece BPE with byte fallback and a word mark before every text."""
    import sentencepiece

    from revinst.data.example_table import load_examples

    folder = tmp_path_factory.mktemp("sentencepiece")
    texts = [example.response.replace("\n", " ") for example in load_examples("quickstart")[0]]
    (folder / "corpus.txt").write_text("\n".join(texts), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=1000,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def llama(sentencepiece_folder):
    """A tokenizer like Llama 2's, with 1,000 ids."""
    from revinst.data.tokenizer import load_tokenizer

    return load_tokenizer(str(sentencepiece_folder))


@pytest.fixture(scope="session", params=["smollm", "llama"])
def tokenizer(request):
    """Both kinds of tokenizer in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def tiny_llama(base, tmp_path_factory) -> Path:
    """A random two-layer Llama with the quickstart model's tokenizer, for what only needs speed."""
    from tests.tiny import write_tiny_llama

    return write_tiny_llama(tmp_path_factory.mktemp("tiny_llama"), Path(base))


@pytest.fixture(params=["bf16-mixed", "32-true"])
def precision(request) -> str:
    """Both of a CPU's, for what computes on the real base. A CPU without bf16 would take minutes for its part."""
    import torch

    from revinst.model.hardware import choose_dtype, choose_precision

    if request.param == "bf16-mixed" != choose_precision("cpu"):
        pytest.skip(choose_dtype(torch.device("cpu"))[1])
    return request.param


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["REVINST_CACHE"], ignore_errors=True)
