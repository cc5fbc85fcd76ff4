"""GGUF files read back through transformers hold the model and the tokenizer that went in."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from gguf import GGUFReader, TokenType
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as BackendTokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig, LlamaConfig, LlamaForCausalLM

from revinst.data.tokenizer import load_tokenizer
from revinst.errors import UserError
from revinst.export.gguf import FORMATS, load_gguf, split_steps, why_not_gguf, write_gguf
from revinst.export.gguf_architectures import ARCHITECTURES, pair_rotary_rows
from tests.model.base_cases import plain_model
from tests.model.base_cases import tiny_config as tiny_case
from tests.tiny import tiny_config

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
    unpacked = GgufConfig(dequantize=True)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, quantization_config=unpacked)
    own = load_gguf(file, tmp_path / "model", CPU, "eager", torch.float32).state_dict()
    assert all(torch.equal(own[name], weight) for name, weight in again.state_dict().items())
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        p, q = (part(ids).logits.log_softmax(-1) for part in (whole, again))
    assert (p.exp() * (p - q)).sum(-1).mean() <= BOUNDS[kind]
    assert again.config.rope_parameters["rope_theta"] == 50_000.0 and again.config.rms_norm_eps == pytest.approx(1e-5)
    sizes = {"bf16": 2.0, "q8_0": 34 / 32, "q4_0": 34 / 32, "q4_1": 34 / 32}
    assert file.stat().st_size < sizes[kind] * sum(p.numel() for p in model.parameters()) + 1e5  # and the vocabulary


def test_rotary_rows():
    assert pair_rotary_rows(2, 4).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_each_architecture_is_read_back(llama, tmp_path, model_type):
    """What llama.cpp itself makes of them is in test_readers.py."""
    own = {"query_pre_attn_scalar": 16, "norm_topk_prob": True, "num_local_experts": 4, "num_experts": 4}
    own |= {"pad_token_id": 0, "sliding_window": 512, "moe_intermediate_size": 32, "num_experts_per_tok": 2}
    config = tiny_case(model_type, **own | {"vocab_size": 1000, "max_position_embeddings": 512})
    plain_model(config).to(torch.bfloat16).save_pretrained(tmp_path / "model")
    write_gguf(tmp_path / "model", tmp_path / "m.gguf", "bf16", llama)
    again = load_gguf(tmp_path / "m.gguf", tmp_path / "model", CPU, "eager", torch.float32).state_dict()
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).state_dict()
    assert again.keys() == whole.keys()
    assert all(torch.allclose(again[name], weight, atol=4e-3) for name, weight in whole.items())  # Gemma's 1 + weight
    assert GGUFReader(tmp_path / "m.gguf").fields["general.architecture"].contents() == ARCHITECTURES[model_type].name


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


def test_each_row_has_a_token_and_each_end_a_name(llama, tmp_path):
    """llama.cpp refuses a file with fewer tokens than rows."""
    model = LlamaForCausalLM(tiny_config(vocab_size=1064)).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "model")
    write_gguf(tmp_path / "model", tmp_path / "m.gguf", "bf16", replace(llama, other_ends=(1, 0)))
    fields = GGUFReader(tmp_path / "m.gguf").fields
    said = {name: fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type")}
    assert len(said["tokens"]) == len(said["token_type"]) == 1064
    assert said["tokens"][998:1002] == [*llama.hf.convert_ids_to_tokens([998, 999]), "[PAD1000]", "[PAD1001]"]
    assert said["token_type"][1000:] == [TokenType.UNUSED] * 64
    ends = [fields[f"tokenizer.ggml.{name}_token_id"].contents() for name in ("eos", "eot", "eom")]
    assert ends == [2, 1, 0] and fields["tokenizer.ggml.padding_token_id"].contents() < 1000


# Of Llama 3's tokenizer.json.
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize(
    ("pattern", "ignore_merges", "normalizer", "name"),
    [
        (LLAMA_3, True, None, "llama-bpe"),
        (LLAMA_3, False, None, "dbrx"),
        (LLAMA_3, True, normalizers.NFC(), None),
        (LLAMA_3.replace("{1,3}", ""), True, None, None),  # llama.cpp merges whole words there
        (LLAMA_3.replace("{1,3}", ""), False, normalizers.NFC(), "qwen2"),
        (LLAMA_3.replace("{1,3}", ""), False, normalizers.NFKC(), None),
        (LLAMA_3.replace("{1,3}", "{1,2}"), False, None, None),
        (None, False, None, "gpt-2"),
    ],
)
def test_words_are_split_as_llama_cpp_does_or_refused(smollm, pattern, ignore_merges, normalizer, name):
    definition = json.loads(smollm.hf.backend_tokenizer.to_str())
    definition["model"]["ignore_merges"] = ignore_merges
    backend = BackendTokenizer.from_str(json.dumps(definition))
    if pattern:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    if normalizer:
        backend.normalizer = normalizer
    tokenizer = replace(smollm, hf=SimpleNamespace(backend_tokenizer=backend))
    if name:
        assert split_steps(tokenizer) == name
        return
    with pytest.raises(UserError, match="splits text by its own rules"):
        split_steps(tokenizer)


def test_a_base_without_rotary_angles_is_refused_in_one_line(llama, tmp_path):
    AutoConfig.for_model("opt").save_pretrained(tmp_path)
    assert why_not_gguf(str(tmp_path), llama) == "model_type opt is not written"
    tiny_config().save_pretrained(tmp_path)
    assert why_not_gguf(str(tmp_path), llama) == ""


PLAIN = {"rope_type": "default", "rope_theta": 1e4}
YARN = PLAIN | {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16, "original_max_position_embeddings": 16}
BY_LAYER = {
    name: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6} for name in ("full_attention", "sliding_attention")
}


@pytest.mark.parametrize(
    ("model_type", "options", "says"),
    [
        (
            "mistral",
            {"sliding_window": 16},
            "has no windows for llama, and this base has one of 16 tokens in texts of 64",
        ),
        ("phi3", {"sliding_window": 16}, "has no windows for phi3"),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
            "has no windows for qwen2",
        ),
        ("gemma2", {"query_pre_attn_scalar": 64}, "query_pre_attn_scalar 64, where llama.cpp takes 16"),
        ("gemma3_text", {"query_pre_attn_scalar": 16, "rope_parameters": BY_LAYER}, "linear in layers with a window"),
        ("gemma2", {"query_pre_attn_scalar": 16, "tie_word_embeddings": False}, "holds lm_head.weight"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers"),
        ("qwen3_moe", {"norm_topk_prob": False}, "norm_topk_prob: false"),
        ("qwen3_moe", {"norm_topk_prob": True, "mlp_only_layers": [0]}, "holds model.layers.0.mlp.gate_proj.weight"),
        ("stablelm", {"qk_layernorm": True}, "layernorm.norms.0.weight"),
        ("olmo2", {"tie_word_embeddings": True}, "the head is a copy of the embedding"),
        ("cohere2", {"head_dim": 32}, "cohere2 takes head_dim 16 alone"),
        ("qwen3", {"attention_bias": True}, "holds model.layers.0.self_attn.o_proj.bias"),
        ("gpt_neox", {"attention_bias": False}, "attention_bias: false"),
        ("olmo3", {"rope_parameters": {"full_attention": YARN, "sliding_attention": PLAIN}}, "yarn with beta_fast 16"),
        ("olmo3", {"rope_parameters": {"full_attention": PLAIN, "sliding_attention": YARN}}, "in layers with a window"),
        ("granite", {"rope_parameters": YARN}, "of type yarn are not written for granite"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act gelu is not what llama.cpp computes"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused_by_the_config(llama, tmp_path, model_type, options, says):
    sizes = {"vocab_size": 1000, "max_position_embeddings": 64, "pad_token_id": 0}
    tiny_case(model_type, **sizes | options).save_pretrained(tmp_path)
    reason = why_not_gguf(str(tmp_path), llama)
    assert says in reason and "\n" not in reason


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "opt"}, "model_type opt"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "rotary angles of type dynamic",
        ),
        ({"rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 1e4}}, "partial_rotary_factor 0.5"),
    ],
)
def test_what_gguf_would_not_hold_is_refused(tiny_llama, tmp_path, change, says):
    AutoModelForCausalLM.from_pretrained(tiny_llama).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=says):
        write_gguf(tmp_path, tmp_path / "x.gguf", "bf16", load_tokenizer(str(tiny_llama)))
    assert not (tmp_path / "x.gguf").exists()
