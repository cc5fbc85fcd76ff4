"""What each architecture is in GGUF: llama.cpp's name for it, where it differs from a Llama, and what it can't say.

What llama.cpp reads of a file, and what it takes for granted, is in its `src/models`; tests/export/test_readers.py
holds its numbers against plain transformers'.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, TypedDict

import torch

from revinst.errors import UserError

if TYPE_CHECKING:
    from gguf import TensorNameMap
    from transformers import PretrainedConfig

ATTENTION, LLAMAS = {"q_proj", "k_proj", "v_proj"}, {"o_proj", "gate_proj", "up_proj", "down_proj"}
YARN = frozenset({"yarn"})
EXPERT = re.compile(r"\.experts\.(\d+)\.")


class Rotary(TypedDict, total=False):
    """Of a config's `rope_parameters`, what is asked here."""

    rope_type: str
    rope_theta: float
    factor: float
    partial_rotary_factor: float
    original_max_position_embeddings: int


def always(config: "PretrainedConfig") -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Architecture:
    """name: llama.cpp's. paired: it turns neighbouring rows of queries and keys, transformers a row and the one half a
    head further on. mixed: rows of query, key and value alternate by heads in transformers' files. windows: some
    layers may have one. rotary: kinds of angles, beside ordinary and linearly scaled ones. biases: layers that may
    have one, by the last part of their names. norm_offset: what norms multiply with, less their weight. square: heads
    fill the hidden size. own_head: it is no copy of the embedding. why_not: config -> why llama.cpp computes something
    else, or "".
    """

    name: str
    paired: bool = False
    mixed: bool = False
    windows: bool = False
    rotary: frozenset[str] = frozenset()
    biases: frozenset[str] = frozenset(ATTENTION)
    norm_offset: float = 0.0
    square: bool = False
    own_head: bool = False
    activation: tuple[str, ...] = ("silu",)
    why_not: Callable[["PretrainedConfig"], str] = always


def why_not_gemma(config: "PretrainedConfig") -> str:
    """The scale of scores is no key of the file: llama.cpp takes the 27B by its number of layers."""
    is_27b = config.num_hidden_layers == {"gemma2": 46}.get(config.model_type, 62)
    expected = config.hidden_size // config.num_attention_heads if is_27b else config.head_dim
    scale = config.query_pre_attn_scalar
    return "" if scale == expected else f"query_pre_attn_scalar {scale}, where llama.cpp takes {expected}"


def why_not_smollm3(config: "PretrainedConfig") -> str:
    expected = [int(number % 4 != 3) for number in range(config.num_hidden_layers)]
    return "" if config.no_rope_layers == expected else "no_rope_layers that are not each fourth, as llama.cpp has them"


def why_not_qwen3_moe(config: "PretrainedConfig") -> str:
    return "" if config.norm_topk_prob else "norm_topk_prob: false, where llama.cpp takes true"


def why_not_gpt_neox(config: "PretrainedConfig") -> str:
    return "" if config.attention_bias else "attention_bias: false, where llama.cpp wants the biases"


LLAMA = Architecture("llama", paired=True, rotary=frozenset({"llama3", "yarn"}), biases=frozenset(ATTENTION | LLAMAS))
GEMMA = Architecture("gemma2", windows=True, norm_offset=1.0, activation=("gelu_pytorch_tanh",), why_not=why_not_gemma)
ARCHITECTURES = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "mixtral": LLAMA,
    "qwen2": Architecture("qwen2", rotary=YARN),
    "qwen3": Architecture("qwen3", rotary=YARN),
    "qwen3_moe": Architecture("qwen3moe", rotary=YARN, why_not=why_not_qwen3_moe),
    "gemma2": GEMMA,
    "gemma3_text": replace(GEMMA, name="gemma3"),
    "phi3": Architecture("phi3", rotary=frozenset({"longrope"}), square=True),
    "smollm3": Architecture("smollm3", paired=True, why_not=why_not_smollm3),
    "olmo2": Architecture("olmo2", square=True, own_head=True),
    "olmo3": Architecture("olmo2", windows=True, rotary=YARN, square=True, own_head=True),
    "granite": Architecture("granite", paired=True, biases=frozenset(ATTENTION | LLAMAS)),
    "cohere2": Architecture("cohere2", windows=True, square=True),
    "stablelm": Architecture(
        "stablelm", biases=frozenset(ATTENTION | {"norm", "input_layernorm", "post_attention_layernorm"}), square=True,
        own_head=True,
    ),
    "gpt_neox": Architecture(
        "gptneox", mixed=True, why_not=why_not_gpt_neox,
        square=True, own_head=True, activation=("gelu", "gelu_new", "gelu_fast"),
        biases=frozenset(
            {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h", "final_layer_norm", "input_layernorm"}
            | {"post_attention_layernorm"}
        ),
    ),
}  # fmt: skip


def architecture_of(config: "PretrainedConfig") -> Architecture:
    """Raises UserError for a base that llama.cpp would compute otherwise, or has no words for."""
    found = ARCHITECTURES.get(config.model_type)
    reason = why_not(config, found) if found else f"model_type {config.model_type} is not written"
    if found is None or reason:
        raise UserError(f"GGUF: {reason}")
    return found


def why_not(config: "PretrainedConfig", architecture: Architecture) -> str:
    ours = architecture.name
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    window, longest = getattr(config, "sliding_window", None), config.max_position_embeddings
    if activation not in architecture.activation:
        return f"hidden_act {activation} is not what llama.cpp computes for {ours}"
    if not architecture.windows and has_windows(config) and window and window < longest:
        return f"llama.cpp has no windows for {ours}, and this base has one of {window} tokens in texts of {longest}"
    if architecture.square and head_size(config) * config.num_attention_heads != config.hidden_size:
        return f"llama.cpp's {ours} takes head_dim {config.hidden_size // config.num_attention_heads} alone"
    return why_not_rotary(config, architecture) or architecture.why_not(config)


def why_not_rotary(config: "PretrainedConfig", architecture: Architecture) -> str:
    of_all, of_windows = rotary(config)
    kind = of_all["rope_type"]
    if kind not in {"default", "linear", *architecture.rotary}:
        return f"rotary angles of type {kind} are not written for {architecture.name}"
    if kind == "yarn" and (other := other_yarn(of_all)):
        return f"rotary angles of type yarn with {other} are not written"
    if of_windows.get("rope_type", "default") != "default":
        return f"rotary angles of type {of_windows['rope_type']} in layers with a window are not written"
    if architecture.paired and of_all.get("partial_rotary_factor", 1.0) != 1.0:
        return f"partial_rotary_factor {of_all['partial_rotary_factor']} is not written for {architecture.name}"
    return ""


def other_yarn(values: Rotary) -> str:
    """What llama.cpp takes for granted and this base has otherwise; the factor of scores is the paper's."""
    usual = {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": 1.0, "mscale": 0.0, "mscale_all_dim": 0.0}
    usual["attention_factor"] = 0.1 * math.log(values["factor"]) + 1
    for name, value in values.items():
        if isinstance(value, int | float) and not math.isclose(value, usual.get(name, value), rel_tol=1e-5):
            return f"{name} {value}"
    return ""


def has_windows(config: "PretrainedConfig") -> bool:
    layers = getattr(config, "layer_types", None)
    return "sliding_attention" in layers if layers else bool(getattr(config, "sliding_window", None))


def head_size(config: "PretrainedConfig") -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def rotary(config: "PretrainedConfig") -> tuple[Rotary, Rotary]:
    """Of all layers, and of those with a window where they have their own."""
    values = config.rope_parameters
    return values.get("full_attention", values), values.get("sliding_attention", {})


def trained_length(config: "PretrainedConfig") -> int:
    """With `longrope` that of the short factors, which llama.cpp takes for all texts of a context up to it."""
    values, _ = rotary(config)
    short = values["rope_type"] == "longrope"
    return values["original_max_position_embeddings"] if short else config.max_position_embeddings


def own_tensors(stored: Iterable[str], config: "PretrainedConfig") -> dict[str, list[str]]:
    """llama.cpp's names, and what each is made of: one tensor of the files, or those of all experts in their order.

    Raises UserError for a tensor that llama.cpp has not.
    """
    architecture = architecture_of(config)
    own: dict[str, list[str]] = {}
    for name in sorted(stored, key=lambda name: int(found[1]) if (found := EXPERT.search(name)) else -1):
        own.setdefault(own_name(name, architecture, config.num_hidden_layers), []).append(name)
    if architecture.own_head and "output.weight" not in own:
        raise UserError(f"GGUF: the head is a copy of the embedding, which llama.cpp's {architecture.name} has not")
    return own


def own_name(name: str, architecture: Architecture, num_layers: int) -> str:
    own = name_map(architecture.name, num_layers).get_name(EXPERT.sub(".experts.", name), (".weight", ".bias"))
    *_, layer, kind = name.split(".")
    if own is None or (kind == "bias" and layer not in architecture.biases):
        raise UserError(f"GGUF: the model holds {name}, which llama.cpp's {architecture.name} has not")
    return own


@cache
def name_map(name: str, num_layers: int) -> "TensorNameMap":
    from gguf import get_tensor_name_map
    from gguf.constants import MODEL_ARCH_NAMES

    return get_tensor_name_map({own: arch for arch, own in MODEL_ARCH_NAMES.items()}[name], num_layers)


def row_order(name: str, config: "PretrainedConfig") -> torch.Tensor | None:
    """name: of a file. The rows of its weight or bias in llama.cpp's order; None: as they are."""
    architecture = ARCHITECTURES[config.model_type]
    if architecture.mixed and ".query_key_value." in name:
        order = torch.arange(3 * config.hidden_size).view(config.num_attention_heads, 3, -1)
        return order.transpose(0, 1).flatten()
    if architecture.paired and (".q_proj." in name or ".k_proj." in name):
        heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
        return pair_rotary_rows(heads, head_size(config))
    return None


def pair_rotary_rows(heads: int, size: int) -> torch.Tensor:
    """One head of four: 0 2 1 3."""
    return torch.arange(heads * size).view(heads, 2, -1).transpose(1, 2).flatten()


def offset(name: str, config: "PretrainedConfig") -> float:
    return ARCHITECTURES[config.model_type].norm_offset if name.endswith("norm.weight") else 0.0


def rotary_factors(config: "PretrainedConfig") -> dict[str, torch.Tensor]:
    """llama.cpp's tensors of how much slower each pair turns than an ordinary one does."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    values, _ = rotary(config)
    kind = values["rope_type"]
    if kind not in ("llama3", "longrope"):
        return {}
    size = int(head_size(config) * values.get("partial_rotary_factor", 1.0))
    ordinary = values["rope_theta"] ** -(torch.arange(0, size, 2, dtype=torch.float32) / size)
    longest = values["original_max_position_embeddings"]
    lengths = {"rope_freqs": None} if kind == "llama3" else {"rope_factors_long": longest + 1, "rope_factors_short": 1}
    turned = {name: ROPE_INIT_FUNCTIONS[kind](config, None, seq_len=length)[0] for name, length in lengths.items()}
    return {f"{name}.weight": ordinary / own for name, own in turned.items()}
