"""The proof at the sizes and settings of released bases, as their config.json has them: billions of parameters."""

import time

import pytest
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from revinst.model import proof
from revinst.model.attention import BACKENDS
from revinst.model.proof import prove

PHI_3 = {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32}
LONG = {"short_factor": [1.0 + n / 50 for n in range(48)], "long_factor": [1.0 + n for n in range(48)]}
GEMMA_2 = {
    **{"head_dim": 256, "hidden_size": 3584, "intermediate_size": 14336, "num_attention_heads": 16},
    **{"num_hidden_layers": 42, "num_key_value_heads": 8, "query_pre_attn_scalar": 256, "vocab_size": 256000},
    **{"sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
}
LLAMA_3 = {
    **{"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3"},
    **{"original_max_position_embeddings": 8192},
}
# type, what its attention asks for, config.json
RELEASED = {
    "Llama 2 7B": ("llama", "", {"num_key_value_heads": 32, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096}),
    "Llama 3.1 8B": (
        "llama",
        "",
        {"hidden_size": 4096, "intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 128256}
        | {"max_position_embeddings": 131072, "rope_theta": 500000.0, "rope_scaling": LLAMA_3},
    ),
    "Mistral 7B 0.1": ("mistral", "window", {"sliding_window": 4096, "rope_theta": 10000.0}),
    "Mistral 7B 0.3": ("mistral", "", {"sliding_window": None, "rope_theta": 1000000.0, "vocab_size": 32768}),
    "Qwen2.5 7B": (
        "qwen2",
        "",
        {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28}
        | {"num_key_value_heads": 4, "use_sliding_window": False, "sliding_window": 131072, "max_window_layers": 28},
    ),
    "Qwen2.5 with windows": (
        "qwen2",
        "window",
        {"num_hidden_layers": 28, "use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 8},
    ),
    "Qwen3 8B": (
        "qwen3",
        "",
        {"hidden_size": 4096, "head_dim": 128, "num_hidden_layers": 36, "num_key_value_heads": 8}
        | {"use_sliding_window": False, "sliding_window": None, "max_window_layers": 36},
    ),
    "Gemma 2 9B": ("gemma2", "soft_cap window", GEMMA_2),
    "Gemma 3 1B": (
        "gemma3_text",
        "window",
        {"head_dim": 256, "hidden_size": 1152, "intermediate_size": 6912, "num_attention_heads": 4}
        | {"num_hidden_layers": 26, "num_key_value_heads": 1, "sliding_window": 512, "sliding_window_pattern": 6}
        | {"query_pre_attn_scalar": 256, "rope_theta": 1000000, "rope_local_base_freq": 10000, "vocab_size": 262144},
    ),
    "Phi-3 mini 4k": ("phi3", "window", PHI_3 | {"sliding_window": 2047, "max_position_embeddings": 4096}),
    "Phi-3 mini 128k": (
        "phi3",
        "window",
        PHI_3
        | {"sliding_window": 262144, "max_position_embeddings": 131072, "original_max_position_embeddings": 4096}
        | {"rope_scaling": {"type": "longrope", **LONG}},
    ),
    "Phi-4": (
        "phi3",
        "",
        {"hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40, "num_attention_heads": 40}
        | {"num_key_value_heads": 10, "sliding_window": None, "rope_theta": 250000, "vocab_size": 100352},
    ),
    "Phi-4 mini": (
        "phi3",
        "window",
        PHI_3
        | {"num_attention_heads": 24, "num_key_value_heads": 8, "partial_rotary_factor": 0.75, "sliding_window": 262144}
        | {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "vocab_size": 200064}
        | {"rope_scaling": {"type": "longrope", **LONG}},
    ),
    "SmolLM3 3B": (
        "smollm3",
        "",
        {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16}
        | {"num_key_value_heads": 4, "no_rope_layer_interval": 4, "use_sliding_window": False, "vocab_size": 128256},
    ),
    "OLMo 2 7B": ("olmo2", "", {"num_hidden_layers": 32, "rope_theta": 500000, "vocab_size": 100352}),
    "OLMo 3 7B": ("olmo3", "window", {"num_hidden_layers": 32, "sliding_window": 4096, "rope_theta": 500000}),
    "Granite 3.1 8B": (
        "granite",
        "",
        {"hidden_size": 4096, "intermediate_size": 12800, "num_hidden_layers": 40, "num_key_value_heads": 8}
        | {"attention_multiplier": 0.0078125, "embedding_multiplier": 12.0, "logits_scaling": 16.0}
        | {"residual_multiplier": 0.22, "rope_theta": 10000000.0, "vocab_size": 49155},
    ),
    "Command R7B": (
        "cohere2",
        "window",
        {"hidden_size": 4096, "num_hidden_layers": 32, "num_key_value_heads": 8, "sliding_window": 4096}
        | {"sliding_window_pattern": 4, "logit_scale": 0.25, "rope_theta": 50000, "vocab_size": 256000},
    ),
    "StableLM 2 1.6B": (
        "stablelm",
        "",
        {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24, "num_attention_heads": 32}
        | {"partial_rotary_factor": 0.25, "use_qkv_bias": True, "vocab_size": 100352},
    ),
    "Pythia 6.9B": (
        "gpt_neox",
        "",
        {"hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 32, "num_attention_heads": 32}
        | {"rotary_pct": 0.25, "use_parallel_residual": True, "vocab_size": 50432},
    ),
    "Mixtral 8x7B": ("mixtral", "", {"num_local_experts": 8, "num_experts_per_tok": 2, "rope_theta": 1000000.0}),
    "Qwen3-30B-A3B": (
        "qwen3_moe",
        "",
        {"hidden_size": 2048, "head_dim": 128, "num_attention_heads": 32, "num_key_value_heads": 4}
        | {"moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48},
    ),
}


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_base_is_proved(name, monkeypatch):
    monkeypatch.setattr(proof, "PROVED", {})
    model_type, needs, values = RELEASED[name]
    config = CONFIG_MAPPING[model_type].from_dict(values)
    since = time.perf_counter()
    assert " ".join(sorted(prove("it", config).needs)) == needs
    print(f"{name}: {time.perf_counter() - since:.2f} s")


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", RELEASED)
def test_it_is_with_each_kernel_of_a_gpu(name, backend, monkeypatch):
    """As `fit` asks, within two seconds; `-s` shows them. What a kernel does not know is not asked of it."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    model_type, needs, values = RELEASED[name]
    device, dtype = torch.device("cuda"), torch.bfloat16 if backend in ("flash", "varlen") else torch.float32
    if (obstacle := BACKENDS[backend].why_not(device, dtype)) or not {*needs.split()} <= BACKENDS[backend].knows:
        pytest.skip(obstacle or f"{backend} does not compute {needs}")
    config = CONFIG_MAPPING[model_type].from_dict(values)
    prove("it", config)  # what a process does but once, on the CPU and on the GPU
    prove("it", config, backend, device, dtype)
    monkeypatch.setattr(proof, "PROVED", {})
    since = time.perf_counter()
    prove("it", config)
    reason = prove("it", config, backend, device, dtype).reason
    seconds = time.perf_counter() - since
    print(f"{name}, {backend}: {seconds:.2f} s, {reason}")
    assert seconds < 2
