"""GGUF files read back through transformers hold the model and the tokenizer that went in."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from revinst.data.tokenizer import load_tokenizer
from revinst.errors import UserError
from revinst.export.gguf import FORMATS, load_gguf, pair_rotary_rows, write_gguf

CPU = torch.device("cpu")
BOUNDS = {"bf16": 0.0, "q8_0": 1e-3, "q4_0": 0.1, "q4_1": 0.1}  # mean KL, nats; q8_0 gave 3e-4


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("tie", [False, True], ids=["untied", "tied"])
def test_read_back(llama, tmp_path, kind, tie):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(llama.hf),
        hidden_size=96,  # a head of 24: more than two pairs of rotary rows
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.1,
        tie_word_embeddings=tie,
        rope_theta=50_000.0,
        rms_norm_eps=1e-5,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "model")
    file = tmp_path / f"{kind}.gguf"
    write_gguf(tmp_path / "model", file, kind, llama)
    ids = torch.arange(100, 180)[None]
    again = load_gguf(file, CPU, "sdpa", torch.float32)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        p, q = (part(ids).logits.log_softmax(-1) for part in (whole, again))
    assert (p.exp() * (p - q)).sum(-1).mean() <= BOUNDS[kind]
    assert again.config.rope_parameters["rope_theta"] == 50_000.0 and again.config.rms_norm_eps == pytest.approx(1e-5)
    sizes = {"bf16": 2.0, "q8_0": 34 / 32, "q4_0": 34 / 32, "q4_1": 34 / 32}
    assert file.stat().st_size < sizes[kind] * sum(p.numel() for p in model.parameters()) + 1e5  # and the vocabulary


def test_rotary_rows():
    rows = torch.arange(8.0)[:, None]  # two heads of four rows
    assert pair_rotary_rows(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize("kind", ["smollm", "llama"])
def test_tokenizer_is_the_same(kind, request, tmp_path):
    """Byte-level BPE and SentencePiece's, ids of texts with the hard parts of both."""
    tokenizer = request.getfixturevalue(kind)
    config = LlamaConfig(
        vocab_size=len(tokenizer.hf), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "model")
    write_gguf(tmp_path / "model", tmp_path / "m.gguf", "bf16", tokenizer)
    again = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    for text in ("The Input below.\n\n  Don't: 1,234.5", "naïve Ελληνικά 中文 🙂", "Tell me how a comet's tail forms."):
        expected = tokenizer.hf(text, add_special_tokens=False).input_ids
        assert len(expected) > 5 and again(text, add_special_tokens=False).input_ids == expected
    assert again.eos_token_id == tokenizer.eos_id and again.bos_token_id == tokenizer.bos_id


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "mistral"}, "model_type mistral"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}}, "rotary angles of type yarn"),
        ({"attention_bias": True}, "biases"),
    ],
)
def test_what_gguf_would_not_hold_is_refused(tiny_llama, tmp_path, change, says):
    AutoModelForCausalLM.from_pretrained(tiny_llama).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=says):
        write_gguf(tmp_path, tmp_path / "x.gguf", "bf16", load_tokenizer(str(tiny_llama)))
    assert not (tmp_path / "x.gguf").exists()
