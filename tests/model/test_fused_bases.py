"""Property 9 for layers that are not Llama's: fused from what is read of them, equal to transformers' own."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from revinst.model.attention import BACKENDS
from revinst.model.attention_interface import register_attention
from revinst.model.fused.description import describe
from revinst.model.fused.support import choose_layers, fuse_layers, why_not
from revinst.model.network import Network
from revinst.model.proof import prove, why_not_fused
from tests.model.base_cases import TYPES, tiny_config
from tests.model.test_fused import error, layers_of, run

BASES = {
    "qwen2": {},
    "qwen3": {},
    "gemma2": {"sliding_window": 24, "attn_logit_softcapping": 2.0},
    "gemma3_text": {"sliding_window": 24, "num_hidden_layers": 3, "sliding_window_pattern": 3},
    "phi3": {"sliding_window": 24},
    "smollm3": {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0]},
    "olmo2": {},
    "olmo3": {"sliding_window": 24},
    "granite": {"residual_multiplier": 0.3, "embedding_multiplier": 3.0, "attention_multiplier": 0.2},
}
PARTIAL = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}
CASES = [*BASES.items(), ("phi3", PARTIAL), ("mistral", {"sliding_window": 24}), ("llama", {"attention_bias": True})]


def build(kind: str, options: dict, dropout: float = 0.0):
    """In float64, random in norms and biases too, with an adapter whose every matrix counts."""
    torch.manual_seed(0)
    config = tiny_config(kind, **options)
    config._attn_implementation = register_attention("eager")
    base = AutoModelForCausalLM.from_config(config).double().requires_grad_(False)
    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, lora, autocast_adapter_dtype=False)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        elif "norm" in name or "bias" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.train()


def fuse(model, offloaded: int):
    layers = layers_of(model)
    numbers, reason = choose_layers(layers, "fused", on_gpu=False, triton=False)
    assert len(numbers) == len(layers), reason
    fuse_layers(layers, numbers, offloaded, BACKENDS["eager"].packed)
    return model


@pytest.mark.parametrize("offloaded", [0, 4])
@pytest.mark.parametrize(("kind", "options"), CASES, ids=[f"{kind} {[*options]}" for kind, options in CASES])
def test_fused_equals_plain(kind, options, offloaded):
    hidden, gradients = run(model := build(kind, options))
    fused_hidden, fused_gradients = run(fuse(model, offloaded))
    assert gradients and all(gradient.norm() > 0 for gradient in gradients.values())
    # transformers takes norms in fp32 even in a float64 model
    assert error(fused_hidden, hidden) < 2e-6
    assert max(error(fused_gradients[name], gradients[name]) for name in gradients) < 2e-6


@pytest.mark.parametrize(("kind", "options"), CASES, ids=[f"{kind} {[*options]}" for kind, options in CASES])
def test_a_lean_layer_gives_the_bits_of_one_that_keeps_all(kind, options):
    found = []
    for offloaded in (0, 4):
        model = fuse(build(kind, options, dropout=0.2), offloaded)
        torch.manual_seed(5)
        found.append(run(model))
    (hidden, gradients), (lean_hidden, lean_gradients) = found
    assert torch.equal(hidden, lean_hidden)
    assert all(torch.equal(gradients[name], lean_gradients[name]) for name in gradients)


FUSED = {
    "cwm", "dots1", "exaone4", "exaone_moe", "gemma", "gemma2", "gemma3_text", "glm4_moe", "granite", "hy_v3",
    "internlm3", "iquestcoder", "llama", "ministral", "mistral", "olmo2", "olmo3", "phi3", "qwen2", "qwen3", "smollm3",
}  # fmt: skip
SEEN = {"ernie4_5", "ernie4_5_moe", "glm", "helium", "mimo_v2_flash", "ministral3"}


@pytest.mark.wide
def test_every_type_is_fused_right_or_seen():
    """At default configs: whose packed rows are exact and of which a layer is described; mixtures by dense layers."""
    found: dict[str, set[str]] = {"": set(), "something else": set()}
    for kind in TYPES:
        try:
            config = tiny_config(kind)
            with torch.device("meta"):
                network = Network(AutoModelForCausalLM.from_config(config).requires_grad_(False))
            if all(why_not(layer) for layer in network.layers):
                continue
            prove("base", config)
        except Exception:  # a type that can't be built tiny, or is refused: `test_bases.py` has these
            continue
        differs = why_not_fused(config, torch.device("cpu"))
        found["something else" if "something else" in differs else differs].add(kind)
    assert found == {"": FUSED, "something else": SEEN}


def test_what_is_read_of_a_layer():
    what = describe(layers_of(build("gemma3_text", BASES["gemma3_text"]))[0])
    assert (what.before_attention.offset, what.activation, what.window) == (1.0, "gelu_tanh", 24)
    assert what.q_norm.width == what.head_dim and what.after_mlp is not None
    what = describe(layers_of(build("olmo2", {}))[0])
    assert what.before_attention is None and what.before_mlp is None and what.q_norm.width > what.head_dim
    layers = layers_of(build("smollm3", BASES["smollm3"]))
    assert [describe(layer).turns for layer in layers] == [True, True, True, False]
    what = describe(layers_of(build("granite", BASES["granite"]))[0])
    assert what.residual == 0.3 and what.scaling == pytest.approx(0.2) and what.qkv == ("q_proj", "k_proj", "v_proj")


@pytest.mark.parametrize(
    ("kind", "fits"), [*((kind, True) for kind in [*BASES, "llama", "mistral"]), ("ernie4_5", False), ("glm", False)]
)
def test_layers_that_would_come_out_wrong_are_seen(kind, fits):
    """These two rotate pairs of neighbours, which nothing in their modules says."""
    found = why_not_fused(tiny_config(kind, **BASES.get(kind, {})), torch.device("cpu"))
    assert (found == "") == fits and ("something else" in found) == (not fits)
