"""What is taken as an adapter, and what is refused by name."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from revinst.config.settings import LoraSettings
from revinst.data.batch import MicroBatch
from revinst.errors import UserError
from revinst.model.adapter import (
    MARKER,
    check_not_merged,
    load_adapter,
    read_adapter_config,
    save_adapter,
)
from revinst.model.attention_interface import register_attention
from revinst.model.lora import attach_lora
from revinst.model.network import Network
from revinst.runs.files import hash_adapter
from tests.tiny import tiny_config


def tiny(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def write_adapter(tiny_llama: Path, folder: Path, **settings: object) -> Path:
    """A random adapter; settings: changes of adapter_config.json."""
    torch.manual_seed(1)
    model = attach_lora(tiny(tiny_llama), LoraSettings(r=2, dropout=0.0), str(tiny_llama))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    save_adapter(model, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (["q_proj", "v_prj"], "v_prj"),
        ([], "target_modules"),
        ([""], "not found"),
        (["all-linear"], "all-linear"),
        ("v_prj", "v_prj not found"),
        ("v_proj", "v_proj not found"),  # a pattern of whole names
        ("(v_proj", "unterminated"),
        (".*", "LlamaModel"),
        (["mlp"], "LlamaMLP"),
        (["input_layernorm"], "LlamaRMSNorm"),
        (["model.norm"], "LlamaRMSNorm"),
        (["q_proj", "embed_tokens"], "no linear layer but Embedding"),
        (["lm_head"], "lm_head is not part of the decoder"),
        (["q_proj", "lm_head"], "lm_head is not part of the decoder"),
        (".*(q_proj|head)", "lm_head is not part of the decoder"),
    ],
)
@pytest.mark.parametrize("tied", [False, True])
def test_targets_that_would_not_be_trained_are_refused(targets, says, tied):
    """In one line that says what to give; PEFT takes most of them, or answers with what its own classes are."""
    model = LlamaForCausalLM(tiny_config(vocab_size=64, tie_word_embeddings=tied))
    with pytest.raises(UserError, match="target_modules") as refused:
        attach_lora(model, LoraSettings(r=2, target_modules=targets), "base")
    line = str(refused.value)
    assert says in line and "\n" not in line and "as in [q_proj, v_proj], or give all-linear" in line


@pytest.mark.parametrize(
    "targets", ["all-linear", ["q_proj"], ["self_attn.q_proj", "0.mlp.up_proj"], r".*layers\.1\..*_proj"]
)
def test_every_parameter_that_is_counted_is_trained(targets):
    torch.manual_seed(0)
    llama = LlamaForCausalLM(tiny_config(vocab_size=64, attn_implementation=register_attention("sdpa")))
    model = attach_lora(llama, LoraSettings(2, 4, 0.0, targets), "base")
    network, ids = Network(model), torch.arange(20)[None]
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in trained.items():
        if "lora_B" in name:
            parameter.data.normal_()
    batch = MicroBatch(ids, ids, ids, torch.tensor([0, 20], dtype=torch.int32), ids[0], [20], ["row"])
    network.token_nll(batch).sum().backward()
    assert trained and all(p.grad.norm() > 0 for p in trained.values())
    network.head.requires_grad_(True)
    with pytest.raises(AssertionError, match="no gradient"):
        network.token_nll(batch)


@pytest.mark.parametrize(
    "setting",
    [
        {"use_dora": True},  # without the magnitudes
        {"lora_bias": True},
        {"fan_in_fan_out": True},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"init_lora_weights": "pissa"},
        {"layer_replication": [[0, 1], [0, 1]]},
        {"a_setting_of_a_later_peft": 3},
        {"r": "many"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_what_would_not_be_merged_exactly_is_refused(tiny_llama, tmp_path, setting):
    folder = write_adapter(tiny_llama, tmp_path / "adapter", **setting)
    with pytest.raises(ValueError, match=f"{next(iter(setting))}|does not fit"):
        load_adapter(tiny(tiny_llama), folder)


def test_an_adapter_is_not_merged_twice(tiny_llama, tmp_path):
    folder = write_adapter(tiny_llama, tmp_path / "adapter")
    other = write_adapter(tiny_llama, tmp_path / "other")
    (other / "adapter_model.safetensors").write_bytes(b"another")
    (tmp_path / MARKER).write_text(json.dumps({"adapter_sha256": hash_adapter(folder)}))
    with pytest.raises(ValueError, match="already merged"):
        check_not_merged(str(tmp_path), folder)
    check_not_merged(str(tmp_path), other)
    check_not_merged(str(tiny_llama), folder)
    (tmp_path / MARKER).write_text("[]")
    with pytest.raises(ValueError, match="nobody knows"):
        check_not_merged(str(tmp_path), other)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"peft_type": "IA3"}', "\x00"])
def test_config_that_is_none(tmp_path, content):
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(ValueError, match=r"adapter_config\.json"):
        read_adapter_config(tmp_path)


def test_a_seed_gives_the_same_adapter_whatever_the_default_device(tiny_llama):
    """Strategies of Lightning build a model under different default devices; `meta` stands in for a GPU here."""
    adapters = []
    for default in ("cpu", "meta"):
        base = tiny(tiny_llama)
        torch.manual_seed(3)
        with torch.device(default):
            model = attach_lora(base, LoraSettings(r=2), "base")
        adapters.append([parameter for parameter in model.parameters() if parameter.requires_grad])
    assert len(adapters[0]) == 28 and all(parameter.device.type == "cpu" for parameter in adapters[1])
    assert all(torch.equal(one, other) for one, other in zip(*adapters, strict=True))
    assert sum(parameter.abs().sum() for parameter in adapters[0]) > 1
