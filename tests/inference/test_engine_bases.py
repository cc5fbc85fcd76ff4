"""Slots write what plain transformers writes with layers that are not Llama's; on CPU and GPU, in fp32."""

from copy import deepcopy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from revinst.inference.engine.engine import generate_batches
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.engine.support import why_not_decoder
from revinst.model.attention_interface import register_attention
from revinst.model.network import Network
from tests.model.base_cases import tiny_config
from tests.model.test_fused_bases import BASES, PARTIAL

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 512}
CASES = [*BASES.items(), ("qwen3", {"rope_parameters": YARN}), ("llama", {"attention_bias": True, "mlp_bias": True})]
DEVICES = [torch.device("cpu"), pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]


def build(kind: str, options: dict, attention: str) -> torch.nn.Module:
    """Random in norms and biases too, with an adapter whose every matrix counts."""
    torch.manual_seed(0)
    config = tiny_config(kind, initializer_range=0.3, **options)
    config._attn_implementation = attention
    base = AutoModelForCausalLM.from_config(deepcopy(config), dtype=torch.float32).requires_grad_(False).eval()
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        elif "norm" in name or "bias" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.requires_grad_(False).eval()


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize(("kind", "options"), CASES, ids=[f"{kind} {[*options]}" for kind, options in CASES])
def test_texts_are_those_of_transformers(smollm, kind, options, device):
    """Of prompts that share a prefix and do not, shorter and longer than a window of 24."""
    plain = build(kind, options, "eager")
    network = Network(build(kind, options, register_attention("eager"))).to(device).eval()
    assert not why_not_decoder(network)
    first = torch.randint(10, 512, (12,)).tolist()
    prompts = [first + torch.randint(10, 512, (n,)).tolist() for n in (3, 9, 20, 31, 40)]
    settings = GenerationSettings(max_new_tokens=20, engine="slots", precision="fp32")
    for some in (prompts, prompts[-1:]):
        for number, made in generate_batches(network, smollm, some, settings):
            ids = torch.tensor([some[number]])
            expected = plain.generate(input_ids=ids, do_sample=False, max_new_tokens=20, eos_token_id=smollm.eos_id)
            new = expected[0, ids.shape[1] :].tolist()
            assert made.token_ids == (new[:-1] if new[-1] == smollm.eos_id else new)


@pytest.mark.parametrize(("kind", "options"), [("phi3", PARTIAL), ("ernie4_5", {}), ("glm", {})])
def test_bases_that_would_come_out_wrong_go_to_transformers(kind, options):
    network = Network(build(kind, options, register_attention("eager")))
    assert why_not_decoder(network)
