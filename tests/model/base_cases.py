"""A tiny random model of any causal type of the installed transformers, and whether its packed loss is that of plain
transformers (eager, fp32): the sum of lone documents, and nothing else.
"""

import inspect
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from revinst.config.settings import LoraSettings
from revinst.data.batch import MicroBatch
from revinst.errors import UserError
from revinst.model.attention import Needs, choose_attention
from revinst.model.attention_interface import register_attention
from revinst.model.build import build_empty
from revinst.model.memory import shape_of
from revinst.model.network import Network
from revinst.model.proof import prove

TYPES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
VOCABULARY, DOCUMENTS = 512, (60, 25, 90, 40)
LARGEST = 60_000_000  # parameters: more is not tiny
BOUND = 1e-5
ALWAYS: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
WHERE_KNOWN: dict[str, Any] = {
    "intermediate_size": 128,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "initializer_range": 0.15,
    "max_position_embeddings": 2048,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 2048,
    "d_model": 64,
    "n_layers": 2,
    "n_heads": 4,
    "ffn_dim": 128,
    "word_embed_proj_dim": 64,
    "num_layers": 2,
    "num_heads": 4,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "shared_expert_intermediate_size": 64,
    "sliding_window": 4096,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "max_seq_len": 2048,
    "rotary_dim": 16,
}

DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
FACTORS = [1.0 + number / 4 for number in range(8)]
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "original_max_position_embeddings": 64,
    "factor": 32.0,
    "short_factor": FACTORS,
    "long_factor": [4 * factor for factor in FACTORS],
}
# What changes a document's numbers beside a causal softmax, in documents of 25 to 90 tokens.
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 24},
    "gemma3_text": {"sliding_window": 24},
    "gemma2": {"sliding_window": 24, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    "gpt_oss": {"sliding_window": 24},
    "granite": {"logits_scaling": 8.0},
    "cohere2": {"logit_scale": 0.5, "sliding_window": 24},
    "stablelm": {},
    "phi3": {"rope_parameters": LONG, "original_max_position_embeddings": 64},
    "qwen3": {"max_position_embeddings": 64, "rope_parameters": DYNAMIC},
}


@dataclass(frozen=True, slots=True)
class Case:
    """status: exact, wrong, refused (in the line of `what`), traceback, or untested: it can't be built tiny."""

    status: str
    what: str = ""


class Untested(Exception):
    """Why there is no tiny one."""


def tiny_config(model_type: str, **options: Any) -> PreTrainedConfig:
    """Raises Untested."""
    config_class = CONFIG_MAPPING[model_type]
    known = {*inspect.signature(config_class.__init__).parameters, *getattr(config_class, "__dataclass_fields__", {})}
    try:
        config = config_class(**ALWAYS | {k: v for k, v in WHERE_KNOWN.items() if k in known} | options)
    except Exception as error:
        raise Untested(f"config: {first_line(error)}") from error
    if not hasattr(config, "vocab_size"):
        raise Untested("a config of several models")
    return config


def plain_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Random in everything, norms and biases too, so that nothing that is dropped goes unseen. Raises Untested."""
    with torch.device("meta"):
        try:
            size = sum(p.numel() for p in AutoModelForCausalLM.from_config(deepcopy(config)).parameters())
        except Exception as error:
            raise Untested(f"build: {first_line(error)}") from error
    if size > LARGEST:
        raise Untested(f"{size / 1e6:.0f} million parameters")
    torch.manual_seed(0)
    options: dict[str, Any] = {"attn_implementation": "eager", "dtype": torch.float32}
    try:
        model = AutoModelForCausalLM.from_config(deepcopy(config), **options).eval()
    except Exception as error:
        raise Untested(f"build: {first_line(error)}") from error
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1 and ("norm" in name or "bias" in name or "sink" in name):
                p.add_((0.1 if "norm" in name else 0.3) * torch.randn_like(p))
            elif p.dim() > 1 and not p.any():
                p.add_(0.1 * torch.randn_like(p))
    return model


def packed_network(plain: PreTrainedModel, config: PreTrainedConfig, backend: str = "sdpa") -> Network:
    """The same weights under one of our kernels."""
    options: dict[str, Any] = {"attn_implementation": register_attention(backend), "dtype": torch.float32}
    model = AutoModelForCausalLM.from_config(deepcopy(config), **options)
    model.load_state_dict(plain.state_dict())
    return Network(model.requires_grad_(False)).eval()


def draw_documents(lengths: Iterable[int] = DOCUMENTS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(10, VOCABULARY, (length,), generator=generator) for length in lengths]


def next_tokens(document: Tensor) -> Tensor:
    return torch.cat([document[1:], torch.tensor([2])])


def pack(documents: list[Tensor]) -> MicroBatch:
    lengths = [len(document) for document in documents]
    targets = torch.cat([next_tokens(document) for document in documents])
    return MicroBatch(
        input_ids=torch.cat(documents)[None],
        targets=targets[None],
        position_ids=torch.cat([torch.arange(length) for length in lengths])[None],
        cu_seqlens=torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32),
        target_index=torch.arange(len(targets)),
        seq_lens=lengths,
        ids=["row"],
    )


def plain_nll(model: PreTrainedModel, document: Tensor) -> Tensor:
    """[n] of transformers' own forward."""
    logits = model(input_ids=document[None], use_cache=False).logits[0].float()
    return F.cross_entropy(logits, next_tokens(document), reduction="none")


@torch.no_grad()
def check(model_type: str, backend: str = "auto", **options: Any) -> Case:
    """As `fit` takes such a base: proved, or refused; then the loss, whatever the proof said of it."""
    try:
        config = tiny_config(model_type, **options)
        model = plain_model(config)
        documents = draw_documents()
        try:
            plain = torch.cat([plain_nll(model, document) for document in documents])
        except Exception as error:
            raise Untested(f"plain forward: {first_line(error)}") from error
    except Untested as error:
        return Case("untested", str(error))
    try:
        proof = prove("base", config)
        attention, _ = choose_attention(torch.device("cpu"), backend, torch.float32, needs=Needs(proof.needs))
        network = packed_network(model, config, attention)
        packed = network.token_nll(pack(documents))
        alone = torch.cat([network.token_nll(pack([document])) for document in documents])
    except UserError as error:
        return Case("refused", str(error))
    except Exception as error:
        return Case("traceback", first_line(error))
    isolation, exactness = (((a - b).norm() / b.norm()).item() for a, b in ((packed, alone), (alone, plain)))
    status = "exact" if max(isolation, exactness) < BOUND else "wrong"
    return Case(status, f"isolation {isolation:.0e}, against plain {exactness:.0e}")


def check_all_linear(config: PreTrainedConfig, folder: Path) -> Case:
    """Whether `fit` and `plan` take such a base with the default adapter, and count its memory. Writes its config."""
    config.save_pretrained(folder)
    try:
        shape_of(build_empty(str(folder), LoraSettings(r=2)))
    except UserError as error:
        return Case("refused", str(error))
    except Exception as error:
        return Case("traceback", first_line(error))
    return Case("exact")


def first_line(error: Exception) -> str:
    return f"{type(error).__name__} {(str(error).splitlines() or [''])[0][:120]}".strip()
