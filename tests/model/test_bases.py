"""Packed rows of every kind of base: what plain transformers computes, or refused in one line."""

import re

import pytest
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from revinst.config.settings import LoraSettings
from revinst.errors import UserError
from revinst.model import attention_interface, network, proof
from revinst.model.build import build_empty, check_positions
from revinst.model.lora import attach_lora
from revinst.model.network import Network
from revinst.model.proof import prove
from tests.model.base_cases import (
    DYNAMIC,
    KINDS,
    TYPES,
    check,
    check_all_linear,
    draw_documents,
    pack,
    packed_network,
    plain_model,
    plain_nll,
    tiny_config,
)

SOON = ["llama", "mistral", "gemma3_text", "granite", "stablelm"]


@pytest.mark.parametrize("model_type", KINDS)
def test_the_packed_loss_is_that_of_plain_transformers(model_type):
    case = check(model_type, **KINDS[model_type])
    assert case.status == "exact", case


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", SOON)
def test_so_it_is_with_each_backend(model_type, backend):
    assert check(model_type, backend, **KINDS[model_type]).status == "exact"


@pytest.mark.parametrize("model_type", KINDS)
def test_gradients_are_those_of_plain_transformers(model_type):
    """Of every adapter's B, which is zero, and so is A's gradient. Cohere's layers share one norm's output."""
    config, documents = tiny_config(model_type, **KINDS[model_type]), draw_documents()
    plain = plain_model(config)
    backend = "eager" if model_type in ("gemma2", "gpt_oss") else "sdpa"
    packed = packed_network(plain, config, backend).base
    settings, gradients = LoraSettings(r=2, dropout=0.0, target_modules=["q_proj", "o_proj"]), []
    if model_type == "phi3":
        settings = LoraSettings(r=2, dropout=0.0, target_modules=["qkv_proj", "o_proj"])
    for model in (plain.requires_grad_(False), packed):
        torch.manual_seed(1)
        adapted = attach_lora(model, settings, "base").eval()
        if model is packed:
            Network(adapted).token_nll(pack(documents)).sum().backward()
        else:
            torch.cat([plain_nll(adapted.get_base_model(), document) for document in documents]).sum().backward()
        gradients.append([p.grad for name, p in adapted.named_parameters() if "lora_B" in name])
    assert len(gradients[0]) == 4 and all(gradient.any() for gradient in gradients[0])
    for a, b in zip(*gradients, strict=True):
        assert (a - b).norm() < 1e-4 * b.norm()


@pytest.mark.parametrize("model_type", ["mistral", "gemma2", "gpt_oss", "stablelm", "granite"])
def test_generation_with_a_cache_is_that_of_plain_transformers(model_type):
    """Left padding, and texts that outgrow the window."""
    config = tiny_config(model_type, **KINDS[model_type])
    plain = plain_model(config)
    packed = packed_network(plain, config, "eager").base
    first, second = draw_documents([40, 30])
    ids = torch.stack([first, torch.cat([torch.zeros(10, dtype=torch.int64), second])])
    mask = torch.ones_like(ids)
    mask[1, :10] = 0
    options = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
    texts = [model.generate(input_ids=ids, attention_mask=mask, **options) for model in (plain, packed)]
    assert texts[0].shape == (2, 52) and torch.equal(*texts)


def test_the_proof_leaves_the_random_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    proof.PROVED.clear()
    assert prove("base", CONFIG_MAPPING["mistral"]()).needs == {"window"}
    assert torch.equal(before, torch.get_rng_state()) and torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("model_type", "options", "lost", "says"),
    [
        ("mistral", {"sliding_window": 4096}, "window", "sliding windows"),
        ("gemma2", {}, "soft_cap", "soft caps on its scores"),
        ("gpt_oss", {}, "sinks", "its decoder"),
        ("granite", {"logits_scaling": 8.0}, "head", "what follows its head"),
        ("llama", {"rope_parameters": DYNAMIC}, "rope", "rotary angles"),
        ("jamba", {}, None, "documents of one row see each other"),
    ],
)
def test_the_proof_names_what_is_lost(model_type, options, lost, says, monkeypatch):
    """As released configs have it: the window and the trained length are of thousands of tokens."""
    monkeypatch.setattr(proof, "PROVED", {})
    if lost == "head":
        monkeypatch.setattr(network, "read_after_head", lambda config: None)
    elif lost == "rope":
        monkeypatch.setattr(network, "rotate_by_document", lambda model: None)
    elif lost is not None:
        monkeypatch.delitem(attention_interface.IN_TRANSFORMERS, lost)
    with pytest.raises(UserError, match=says) as refused:
        prove("a/base", CONFIG_MAPPING[model_type](**options))
    assert str(refused.value).startswith("model.base a/base: ") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("model_type", "says"),
    [
        ("gpt_neox", ""),
        ("opt", ""),
        ("gpt2", "no linear layer but Conv1D"),
        ("lfm2", ""),
        ("mixtral", "target_modules all-linear"),
        ("qwen3_5_text", "causal_conv1d"),
        ("granitemoehybrid", "causal_conv1d"),
        ("gemma3", "it reads more than text"),
        ("gptj", "takes no other kernel"),
        ("jamba", "documents of one row see each other"),
    ],
)
def test_fit_and_plan_take_it_or_refuse_it_in_one_line(model_type, says, tmp_path):
    """At the default config, of billions of parameters, without weights."""
    case = check_all_linear(CONFIG_MAPPING[model_type](), tmp_path)
    assert case.status == ("refused" if says else "exact"), case
    assert re.search(says, case.what) and "\n" not in case.what


@pytest.mark.parametrize("model_type", ["opt", "gpt_bigcode", "biogpt"])
def test_rows_longer_than_learned_positions_are_refused(model_type, tmp_path):
    tiny_config(model_type, max_position_embeddings=256).save_pretrained(tmp_path)
    learned = build_empty(str(tmp_path), LoraSettings(r=2))
    check_positions(learned, "base", 256)
    with pytest.raises(UserError, match=r"data\.seq_len 257: .* the positions of 256 tokens .* 256 or less"):
        check_positions(learned, "base", 257)


@pytest.mark.parametrize("model_type", ["llama", "phi"])
def test_other_positions_go_on(model_type, tmp_path):
    """Rotary angles are made for any, beyond the trained length too."""
    tiny_config(model_type, max_position_embeddings=256).save_pretrained(tmp_path)
    check_positions(build_empty(str(tmp_path), LoraSettings(r=2)), "base", 1000)


@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_experts_in_16_bits_are_refused_where_4_are_asked_for(model_type, tmp_path):
    tiny_config(model_type).save_pretrained(tmp_path)
    lora = LoraSettings(target_modules=["q_proj", "v_proj"])
    assert build_empty(str(tmp_path), lora, "none").has_adapter
    with pytest.raises(UserError, match=r"\d\d % of its weights are experts .* model\.quantization: none"):
        build_empty(str(tmp_path), lora, "nf4")


def test_a_base_that_does_not_say_where_documents_end_is_refused(monkeypatch):
    """By its first attention, whatever a proof said."""
    packed = packed_network(plain_model(tiny_config("llama")), tiny_config("llama"))
    for layer in packed.layers:
        drop_documents(layer.self_attn, monkeypatch)
    with pytest.raises(UserError, match="not told where documents end"):
        packed.token_nll(pack(draw_documents()))
    assert packed.base(input_ids=draw_documents([30])[0][None]).logits.isfinite().all()


def drop_documents(attention, monkeypatch):
    def forward(hidden_states, position_embeddings, attention_mask=None, **kwargs):
        return plain(hidden_states, position_embeddings, attention_mask=None)

    plain = attention.forward
    monkeypatch.setattr(attention, "forward", forward)


@pytest.mark.wide
@pytest.mark.parametrize("model_type", TYPES)
def test_no_base_is_wrong_or_ends_in_a_traceback(model_type, tmp_path):
    case = check(model_type)
    assert case.status in ("exact", "refused", "untested"), case
    if case.status != "untested":
        assert check_all_linear(tiny_config(model_type), tmp_path).status != "traceback"
