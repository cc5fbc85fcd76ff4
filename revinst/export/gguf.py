"""GGUF files for llama.cpp and Ollama, written tensor by tensor with the `gguf` package, and read back."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from revinst.data.tokenizer import Tokenizer, looks_local
from revinst.errors import UserError
from revinst.model.base_files import BaseFiles, open_base

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter, TensorNameMap, TokenType
    from transformers import PretrainedConfig, PreTrainedModel

# Matrices; embedding and head stay at 8 bits in a 4-bit file, as they do in llama.cpp's own files.
FORMATS = {"bf16": ("BF16", "BF16"), "q8_0": ("Q8_0", "Q8_0"), "q4_0": ("Q4_0", "Q8_0"), "q4_1": ("Q4_1", "Q8_0")}
FILE_TYPES = {"bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0", "q4_0": "MOSTLY_Q4_0", "q4_1": "MOSTLY_Q4_1"}
STORED = {"F32": np.float32, "F16": np.float16}  # what is no sequence of bytes
# llama.cpp's names of what a byte-level tokenizer does with text before merging: steps of tokenizer.json, and whether a
# word that is a token needs no merges. Any other regular expression would be split otherwise there, without a word.
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SPLIT = {"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Isolated", "invert": False}
PRE_TOKENIZERS: dict[str, tuple[list[dict[str, object]], bool]] = {
    "gpt-2": ([BYTES], False),
    "smollm": ([{"type": "Digits", "individual_digits": True}, BYTES], False),
    "llama-bpe": ([SPLIT, BYTES | {"use_regex": False}], True),
}
SENTENCEPIECE = "default"


def write_gguf(
    folder: Path,
    file: Path,
    kind: str,
    tokenizer: Tokenizer,
    *,
    add_bos: bool = True,
    begins_with_text: bool = True,
    progress: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> None:
    """A merged model's folder as one file. Raises UserError for what can't be said in GGUF exactly.

    kind: of FORMATS. add_bos: whether a prompt still lacks its BOS. begins_with_text: or with a special token.
    """
    check_installed()
    from gguf import GGUFWriter, LlamaFileType
    from gguf.quants import quant_shape_to_byte_shape, quantize

    model = open_base(str(folder))
    check_convertible(model.config)
    writer = GGUFWriter(file, "llama")
    writer.add_file_type(LlamaFileType[FILE_TYPES[kind]])
    add_shape(writer, model.config)
    add_tokenizer(writer, tokenizer, model.config.vocab_size, begins_with_text)
    writer.add_add_bos_token(add_bos and tokenizer.bos_id is not None)
    writer.add_add_eos_token(False)
    types = {name: choose_type(name, model.read(name).shape, kind) for name in model.files}
    for name, ggml_type in types.items():
        shape = quant_shape_to_byte_shape(model.read(name).shape, ggml_type)
        dtype = STORED.get(ggml_type.name, np.uint8)
        own_shape = shape if dtype == np.uint8 else model.read(name).shape
        writer.add_tensor_info(own_name_of(name, model.config), own_shape, np.dtype(dtype), math.prod(shape), ggml_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name in progress(list(types)):
        writer.write_tensor_data(quantize(read_paired(model, name).numpy(), types[name]))
    writer.close()


def check_gguf(config: "PretrainedConfig", shapes: Mapping[str, torch.Size], tokenizer: Tokenizer, kind: str) -> int:
    """The bytes of the file's tensors. Raises UserError for what can't be said in GGUF exactly, before it is merged.

    shapes: of the merged model's tensors, by name.
    """
    check_installed()
    from gguf import GGML_QUANT_SIZES

    check_convertible(config)
    split_steps(tokenizer)
    total = 0
    for name, shape in shapes.items():
        own_name_of(name, config)
        block, block_bytes = GGML_QUANT_SIZES[choose_type(name, shape, kind)]
        total += math.prod(shape) // block * block_bytes
    return total


def why_not_gguf(base: str, tokenizer: Tokenizer) -> str:
    """Why `merge --gguf` will refuse a run on this base, as far as its config and tokenizer say; empty if it won't."""
    from transformers import AutoConfig

    try:
        check_convertible(AutoConfig.from_pretrained(Path(base).expanduser() if looks_local(base) else base))
        split_steps(tokenizer)
    except UserError as error:
        return str(error).removeprefix("GGUF: ")
    return ""


def own_name_of(name: str, config: "PretrainedConfig") -> str:
    """llama.cpp's name of a tensor."""
    own = name_map(config.num_hidden_layers).get_name(name, (".weight",))
    if own is None:
        raise UserError(f"GGUF: the model holds {name}, which a Llama has not")
    return own


@cache
def name_map(num_layers: int) -> "TensorNameMap":
    from gguf import get_tensor_name_map
    from gguf.constants import MODEL_ARCH

    return get_tensor_name_map(MODEL_ARCH.LLAMA, num_layers)


def check_installed() -> None:
    if find_spec("gguf") is None:
        raise UserError("GGUF files need the gguf package: pip install gguf")


def check_convertible(config: "PretrainedConfig") -> None:
    reason = ""
    if config.model_type != "llama":
        reason = f"model_type {config.model_type}"
    elif (rope := (config.rope_parameters or {}).get("rope_type", "default")) not in ("default", "linear"):
        reason = f"rotary angles of type {rope}"
    elif config.attention_bias or config.mlp_bias:
        reason = "biases"
    if reason:
        raise UserError(f"GGUF: {reason} can't be exported here; use llama.cpp's own converter on the merged folder")


def choose_type(name: str, shape: torch.Size, kind: str) -> "GGMLQuantizationType":
    """The GGML type of a tensor. Vectors stay fp32; rows that a format's blocks don't divide become fp16."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) == 1:
        return GGMLQuantizationType.F32
    is_end = name in ("model.embed_tokens.weight", "lm_head.weight")
    wanted = GGMLQuantizationType[FORMATS[kind][is_end]]
    return wanted if shape[-1] % GGML_QUANT_SIZES[wanted][0] == 0 else GGMLQuantizationType.F16


def read_paired(model: BaseFiles, name: str) -> torch.Tensor:
    """fp32, with query and key rows as llama.cpp wants them."""
    weight = model.read(name).float()
    if ".q_proj." in name or ".k_proj." in name:
        heads = model.config.num_attention_heads if ".q_proj." in name else model.config.num_key_value_heads
        return pair_rotary_rows(weight, heads).contiguous()
    return weight


def pair_rotary_rows(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp turns neighbouring rows, transformers a row and the one half a head further on.

    Rows of one head: [0 1 2 3] -> [0 2 1 3].
    """
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def add_shape(writer: "GGUFWriter", config: "PretrainedConfig") -> None:
    from gguf import RopeScalingType

    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if config.rope_parameters.get("rope_type") == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_parameters["factor"])


def split_steps(tokenizer: Tokenizer) -> str:
    """llama.cpp's name of how it splits text before merging: of PRE_TOKENIZERS, or SENTENCEPIECE.

    Raises UserError for a tokenizer that GGUF has no words for.
    """
    definition = json.loads(tokenizer.hf.backend_tokenizer.to_str())
    model, normalizer = definition["model"], definition["normalizer"]
    if model["type"] != "BPE":
        raise UserError(f"GGUF: a {model['type']} tokenizer can't be exported here")
    if model.get("byte_fallback"):
        return SENTENCEPIECE
    pre_tokenizer = definition["pre_tokenizer"] or {}
    steps = [
        {key: value for key, value in step.items() if key != "trim_offsets"}
        for step in pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    ]
    names = [name for name, known in PRE_TOKENIZERS.items() if known == (steps, bool(model.get("ignore_merges")))]
    if normalizer or not names:
        raise UserError(
            "GGUF: a tokenizer that splits text by its own rules can't be exported here; use llama.cpp's own converter "
            "on the merged folder"
        )
    return names[0]


def add_tokenizer(writer: "GGUFWriter", tokenizer: Tokenizer, rows: int, begins_with_text: bool) -> None:
    """rows: of the embedding. Each has a token: those that the tokenizer has none for are called `[PAD5]`."""
    from gguf import TokenType

    definition = json.loads(tokenizer.hf.backend_tokenizer.to_str())
    added = {token["id"]: token for token in definition["added_tokens"]}
    pieces = {number: piece for piece, number in definition["model"]["vocab"].items()}
    pieces |= {number: token["content"] for number, token in added.items()}
    tokens = [pieces.get(number, f"[PAD{number}]") for number in range(rows)]
    kinds = [
        kind_of(number, token, added, TokenType) if number in pieces else TokenType.UNUSED
        for number, token in enumerate(tokens)
    ]
    splitting = split_steps(tokenizer)
    if splitting == SENTENCEPIECE:
        add_sentencepiece(writer, tokenizer, kinds, TokenType)
        writer.add_add_space_prefix(begins_with_mark(definition, begins_with_text))
    else:
        writer.add_tokenizer_model("gpt2")
        merges = definition["model"]["merges"]
        writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if tokenizer.bos_id is not None:
        writer.add_bos_token_id(tokenizer.bos_id)
    # llama.cpp has three names for what ends a text, and stops at any of them.
    names = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
    for add, number in zip(names, tokenizer.eos_ids, strict=False):
        add(number)
    writer.add_pad_token_id(tokenizer.named_pad_id)


def begins_with_mark(definition: dict[str, Any], begins_with_text: bool) -> bool:
    """Whether llama.cpp shall put SentencePiece's word mark before a prompt, and then behind each special token too."""
    scheme = (definition["pre_tokenizer"] or {}).get("prepend_scheme")
    if scheme == "first":  # before the first text only, and none where the prompt begins with a special token
        return begins_with_text
    return scheme == "always" or '"Prepend"' in json.dumps(definition["normalizer"])


def kind_of(number: int, token: str, added: dict[int, Any], kinds: "type[TokenType]") -> int:
    if number in added:
        return kinds.CONTROL if added[number]["special"] else kinds.USER_DEFINED
    is_byte = len(token) == 6 and token.startswith("<0x") and token.endswith(">")
    return kinds.BYTE if is_byte else kinds.NORMAL


def add_sentencepiece(writer: "GGUFWriter", tokenizer: Tokenizer, kinds: list[int], types: "type[TokenType]") -> None:
    """SentencePiece's BPE numbers its pieces in the order of its merges, which is their score."""
    unknown = tokenizer.hf.unk_token_id
    if unknown is not None:
        kinds[unknown] = types.UNKNOWN
        writer.add_unk_token_id(unknown)
    first = next(number for number, kind in enumerate(kinds) if kind == types.NORMAL)
    writer.add_tokenizer_model("llama")
    scores = [float(first - number) if kind == types.NORMAL else 0.0 for number, kind in enumerate(kinds)]
    writer.add_token_scores(scores)


def load_gguf(file: Path, device: torch.device, attention: str, dtype: torch.dtype) -> "PreTrainedModel":
    """A GGUF file as an ordinary model, unpacked to `dtype`, for inference with `attention` of model/attention.py."""
    from transformers import AutoModelForCausalLM, GgufConfig

    from revinst.model.attention import register_attention

    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        dtype=dtype,
        device_map={"": device},
        quantization_config=GgufConfig(dequantize=True),
        attn_implementation=register_attention(attention),
    )
    return model.requires_grad_(False).eval()
