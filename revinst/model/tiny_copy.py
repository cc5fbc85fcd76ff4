"""A base's config with the same of every kind and less of each: what `proof.py` builds at random."""

from itertools import cycle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Values = dict[str, Any]  # of a config's JSON

HEADS, HEAD_SIZE, MOST_LAYERS = 4, 32, 12
WINDOW, TRAINED_LENGTH = 8, 24  # tokens: documents of the proof are longer, one of them than the trained length too
SOFT_CAP, CAPS = 2.0, ("attn_logit_softcapping", "final_logit_softcapping", "logits_soft_cap")
HIDDEN = HEADS * HEAD_SIZE

WIDTHS = ("hidden_size", "n_embd", "d_model")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
QUERY_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
# What becomes which size, where a config has it. Scales, ratios, flags and names stay.
SIZES: dict[int, tuple[str, ...]] = {
    512: ("vocab_size", "vocab_size_per_layer_input", "padded_vocab_size"),
    HIDDEN: (
        *("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "embedding_size", "lru_width"),
        *("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "moe_intermediate_size", "d_ff"),
        *("shared_expert_intermediate_size", "shared_intermediate_size", "intermediate_size_mlp"),
        *("block_ff_dim", "dense_intermediate_size", "moe_shared_expert_intermediate_size"),
    ),
    HEAD_SIZE: (
        *(
            "head_dim",
            "global_head_dim",
            "swa_head_dim",
            "kv_channels",
            "v_head_dim",
            "qk_nope_head_dim",
            "qk_rope_head_dim",
        ),
        *("kv_lora_rank", "q_lora_rank", "hidden_size_per_layer_input", "attention_head_dim", "swa_v_head_dim"),
    ),
    2 * HEAD_SIZE: ("qk_head_dim",),
    HEAD_SIZE // 2: ("rotary_dim",),
    4: ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    2: ("num_experts_per_tok", "moe_k", "top_k_experts", "num_experts_per_token", "moe_topk"),
    1: ("n_group", "topk_group", "first_k_dense_replace", "n_shared_experts"),
    WINDOW: ("sliding_window", "attention_chunk_size", "attention_window_size", "local_attention"),
}
OF_A_HEAD = (
    *("head_dim", "global_head_dim", "swa_head_dim", "kv_channels", "attention_head_dim", "qk_head_dim"),
    *("v_head_dim", "swa_v_head_dim"),
)
NEW_SIZE = {name: size for size, names in SIZES.items() for name in names}


def tiny_copy(config: "PreTrainedConfig") -> "PreTrainedConfig":
    """Some hundred thousand parameters instead of billions; its layers are of all kinds that the base has.

    Windows and soft caps are lowered, and the trained length where rotary angles depend on it, so that they matter to
    texts of some ten tokens.
    """
    values = config.to_dict()
    number = next((values[name] for name in LAYERS if isinstance(values.get(name), int)), 0)
    layers = count_layers(values, number)
    tiny = shrink(values, layers, number)
    lower_trained_length(tiny)
    for name in [*values]:
        if name.endswith("_token_id") and isinstance(values[name], int | list):
            tiny[name] = {"bos_token_id": 1, "eos_token_id": 2}.get(name, 0)
    tiny["initializer_range"] = 0.15
    tiny |= {name: SOFT_CAP for name in CAPS if tiny.get(name)}
    for name in ("dtype", "torch_dtype", "quantization_config", "transformers_version", "_name_or_path"):
        tiny.pop(name, None)
    return type(config).from_dict(tiny)


def head_sizes(config: "PreTrainedConfig") -> frozenset[int]:
    """Features of its heads, by the names that configs have for them; empty where they say nothing."""
    values = config.to_dict()
    sizes = {value for name in OF_A_HEAD if isinstance(value := values.get(name), int)}
    parts = [values.get(name) or 0 for name in ("qk_nope_head_dim", "qk_rope_head_dim")]
    sizes |= {sum(parts)} - {0}
    width = next((values[name] for name in WIDTHS if isinstance(values.get(name), int)), 0)
    heads = next((values[name] for name in QUERY_HEADS if isinstance(values.get(name), int)), 0)
    return frozenset(sizes or ({width // heads} if width and heads else ()))


def count_layers(values: Values, number: int) -> int:
    """The least first layers that show every kind of every list with an entry a layer, two at least."""
    kinds = [value for value in values.values() if isinstance(value, list) and len(value) == number]
    shown = [1 + max(map(kind.index, kind)) for kind in kinds if kind and not isinstance(kind[0], dict)]
    dense = values.get("first_k_dense_replace")
    return min(number or 2, max([2, *shown]) + (1 if dense else 0), MOST_LAYERS)


def shrink(values: Values, layers: int, of_layers: int) -> Values:
    tiny = dict(values)
    for name, value in values.items():
        if isinstance(value, list) and len(value) == of_layers:
            tiny[name] = value[:layers]
        elif isinstance(value, bool) or not isinstance(value, int):
            continue
        elif name in LAYERS:
            tiny[name] = layers
        elif name in NEW_SIZE and value > 0:
            tiny[name] = NEW_SIZE[name] if NEW_SIZE[name] >= HEAD_SIZE // 2 else min(value, NEW_SIZE[name])
    shrink_heads(tiny, values)
    if isinstance(of_each := values.get("per_layer_config"), dict):
        kept = {key: value for key, value in of_each.items() if int(key) < layers}
        tiny["per_layer_config"] = {key: shrink(value, layers, of_layers) for key, value in kept.items()}
    return tiny


def shrink_heads(tiny: Values, values: Values) -> None:
    """As many key heads as query heads, or one, or some, as the base has."""
    heads = next((values[name] for name in QUERY_HEADS if isinstance(values.get(name), int)), 0)
    for name in QUERY_HEADS:
        if isinstance(values.get(name), int):
            tiny[name] = HEADS
    for name in KEY_HEADS:
        if name in values:
            tiny[name] = {heads: HEADS, None: HEADS, 1: 1}.get(values[name], HEADS // 2)
    if "head_dim" in values:
        tiny["head_dim"] = HEAD_SIZE
    if "mamba_d_head" in values:
        tiny["mamba_n_heads"] = values.get("mamba_expand", 2) * HIDDEN // values["mamba_d_head"]


def lower_trained_length(tiny: Values) -> None:
    rope = tiny.get("rope_parameters") or {}
    kinds = [rope] if "rope_type" in rope else [kind for kind in rope.values() if isinstance(kind, dict)]
    for kind in kinds:
        if kind.get("rope_type") not in ("dynamic", "longrope"):
            continue
        original = kind.get("original_max_position_embeddings") or tiny.get("original_max_position_embeddings")
        longest = tiny["max_position_embeddings"]
        for values in (kind, tiny):
            if "original_max_position_embeddings" in values:
                values["original_max_position_embeddings"] = TRAINED_LENGTH
        factor = longest // original if original and kind["rope_type"] == "longrope" else 1
        tiny["max_position_embeddings"] = TRAINED_LENGTH * factor
        pairs = int(HEAD_SIZE * kind.get("partial_rotary_factor", 1.0)) // 2
        for name in ("short_factor", "long_factor"):
            if name in kind:
                kind[name] = [factor for factor, _ in zip(cycle(kind[name]), range(pairs), strict=False)]
