"""GGUF files for llama.cpp and Ollama, written tensor by tensor with the `gguf` package, and read back."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from revinst.data.tokenizer import Tokenizer, looks_local
from revinst.errors import UserError
from revinst.export.gguf_architectures import (
    architecture_of,
    has_windows,
    head_size,
    offset,
    own_tensors,
    rotary,
    rotary_factors,
    row_order,
    trained_length,
)
from revinst.export.gguf_tokenizer import add_tokenizer, split_steps, strips_as_phi_3
from revinst.model.base_files import BaseFiles, build_empty_model, open_base

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter
    from transformers import PretrainedConfig, PreTrainedModel

# Matrices; embedding and head stay at 8 bits in a 4-bit file, as they do in llama.cpp's own files.
FORMATS = {"bf16": ("BF16", "BF16"), "q8_0": ("Q8_0", "Q8_0"), "q4_0": ("Q4_0", "Q8_0"), "q4_1": ("Q4_1", "Q8_0")}
FILE_TYPES = {"bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0", "q4_0": "MOSTLY_Q4_0", "q4_1": "MOSTLY_Q4_1"}
STORED = {"F32": np.float32, "F16": np.float16}  # what is no sequence of bytes
ENDS, ROUTER = ("token_embd.weight", "output.weight"), "ffn_gate_inp.weight"
# Keys of a file, and what configs call them; a base without one has it not.
KEYS = {
    "embedding_length": ("hidden_size",),
    "block_count": ("num_hidden_layers",),
    "feed_forward_length": ("intermediate_size",),
    "head_count": ("num_attention_heads",),
    "head_count_kv": ("num_key_value_heads", "num_attention_heads"),
    "layer_norm_rms_eps": ("rms_norm_eps",),
    "layer_norm_eps": ("layer_norm_eps",),
    "vocab_size": ("vocab_size",),
    "parallel_residual": ("use_parallel_residual",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "attention_scale": ("attention_multiplier",),
    "embedding_scale": ("embedding_multiplier",),
    "residual_scale": ("residual_multiplier",),
    "logit_scale": ("logits_scaling", "logit_scale"),
    "expert_count": ("num_local_experts", "num_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
}


@dataclass(frozen=True)
class Contents:
    """Of a file in a format: llama.cpp's tensors, from the stored ones of `model`."""

    model: BaseFiles
    kind: str

    @cached_property
    def parts(self) -> dict[str, list[str]]:
        return own_tensors(self.model.files, self.model.config)

    @cached_property
    def added(self) -> dict[str, torch.Tensor]:
        return rotary_factors(self.model.config)

    def names(self) -> list[str]:
        return [*self.added, *self.parts]

    def shape(self, own: str) -> torch.Size:
        if own in self.added:
            return self.added[own].shape
        return whole_shape(self.parts[own], self.model.shape(self.parts[own][0]))

    def type(self, own: str) -> "GGMLQuantizationType":
        return choose_type(own, self.shape(own), self.kind)

    def read(self, own: str) -> torch.Tensor:
        """fp32, as llama.cpp wants it."""
        if own in self.added:
            return self.added[own]
        parts = [self.turn(name) for name in self.parts[own]]
        return parts[0] if len(parts) == 1 else torch.stack(parts)

    def turn(self, name: str) -> torch.Tensor:
        tensor = self.model.read(name).float()
        order = row_order(name, self.model.config)
        return (tensor if order is None else tensor[order]) + offset(name, self.model.config)

    def turn_back(self, own: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        """The stored tensors that one of llama.cpp's holds."""
        names, found = self.parts[own], {}
        for name, part in zip(names, tensor if len(names) > 1 else [tensor], strict=True):
            order = row_order(name, self.model.config)
            stored = part - offset(name, self.model.config)
            found[name] = stored if order is None else torch.empty_like(stored).index_copy_(0, order, stored)
        return found


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
    contents = Contents(model, kind)
    writer = GGUFWriter(file, architecture_of(model.config).name)
    writer.add_file_type(LlamaFileType[FILE_TYPES[kind]])
    add_shape(writer, model.config)
    add_rotary(writer, model.config)
    add_tokenizer(writer, tokenizer, model.config.vocab_size, begins_with_text)
    if model.config.model_type == "phi3" and strips_as_phi_3(tokenizer):
        writer.add_name("phi-3")
    writer.add_add_bos_token(add_bos and tokenizer.bos_id is not None)
    writer.add_add_eos_token(False)
    for own in contents.names():
        ggml_type = contents.type(own)
        shape = quant_shape_to_byte_shape(contents.shape(own), ggml_type)
        dtype = STORED.get(ggml_type.name, np.uint8)
        own_shape = shape if dtype == np.uint8 else contents.shape(own)
        writer.add_tensor_info(own, own_shape, np.dtype(dtype), math.prod(shape), ggml_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for own in progress(contents.names()):
        writer.write_tensor_data(quantize(contents.read(own).contiguous().numpy(), contents.type(own)))
    writer.close()


def check_gguf(config: "PretrainedConfig", shapes: Mapping[str, torch.Size], tokenizer: Tokenizer, kind: str) -> int:
    """The bytes of the file's tensors. Raises UserError for what can't be said in GGUF exactly, before it is merged.

    shapes: of the merged model's tensors, by name.
    """
    check_installed()
    from gguf import GGML_QUANT_SIZES

    split_steps(tokenizer)
    total = 0
    for own, names in own_tensors(shapes, config).items():
        shape = whole_shape(names, shapes[names[0]])
        block, block_bytes = GGML_QUANT_SIZES[choose_type(own, shape, kind)]
        total += math.prod(shape) // block * block_bytes
    return total


def why_not_gguf(base: str, tokenizer: Tokenizer) -> str:
    """Why `merge --gguf` will refuse a run on this base, as far as its config and tokenizer say; empty if it won't."""
    from transformers import AutoConfig

    try:
        check_installed()
        config = AutoConfig.from_pretrained(Path(base).expanduser() if looks_local(base) else base)
        architecture_of(config)
        split_steps(tokenizer)
        model = build_empty_model(config, base)
        untied = [name for name in model.state_dict() if name not in model.all_tied_weights_keys]
        # Experts have names of their own in files.
        own_tensors((name for name in untied if ".experts." not in name), config)
    except UserError as error:
        return str(error).removeprefix("GGUF: ")
    return ""


def check_installed() -> None:
    if find_spec("gguf") is None:
        raise UserError("GGUF files need the gguf package: pip install 'revinst[gguf]'")


def whole_shape(names: list[str], of_first: torch.Size) -> torch.Size:
    return torch.Size([len(names), *of_first]) if len(names) > 1 else of_first


def choose_type(own: str, shape: torch.Size, kind: str) -> "GGMLQuantizationType":
    """Vectors and routers stay fp32; rows that a format's blocks don't divide become fp16."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) == 1 or own.endswith(ROUTER):
        return GGMLQuantizationType.F32
    wanted = GGMLQuantizationType[FORMATS[kind][own in ENDS]]
    return wanted if shape[-1] % GGML_QUANT_SIZES[wanted][0] == 0 else GGMLQuantizationType.F16


def add_shape(writer: "GGUFWriter", config: "PretrainedConfig") -> None:
    for key, names in KEYS.items():
        values = [getattr(config, name) for name in names if getattr(config, name, None) is not None]
        if values:
            getattr(writer, f"add_{key}")(values[0])
    writer.add_context_length(trained_length(config))
    writer.add_key_length(head_size(config))
    writer.add_value_length(head_size(config))
    if architecture_of(config).windows:
        layers = getattr(config, "layer_types", None) or []
        writer.add_sliding_window(config.sliding_window or config.max_position_embeddings)
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in layers])


def add_rotary(writer: "GGUFWriter", config: "PretrainedConfig") -> None:
    from gguf import RopeScalingType

    values, of_windows = rotary(config)
    writer.add_rope_dimension_count(int(head_size(config) * values.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(values["rope_theta"])
    if has_windows(config):
        writer.add_rope_freq_base_swa(of_windows.get("rope_theta", values["rope_theta"]))
    kind = values["rope_type"]
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(RopeScalingType[kind.upper()])
        writer.add_rope_scaling_factor(values["factor"])
    if kind in ("yarn", "longrope"):
        writer.add_rope_scaling_orig_ctx_len(values["original_max_position_embeddings"])
    if kind == "longrope":
        writer.add_rope_scaling_attn_factors(attention_factor(config))


def attention_factor(config: "PretrainedConfig") -> float:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    return ROPE_INIT_FUNCTIONS[rotary(config)[0]["rope_type"]](config, None, seq_len=1)[1]


def load_gguf(file: Path, folder: Path, device: torch.device, attention: str, dtype: torch.dtype) -> "PreTrainedModel":
    """A GGUF file as an ordinary model, unpacked to `dtype`, for inference with `attention` of model/attention.py.

    folder: the merged model's that it was made of, for config and names.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize

    from revinst.model.attention_interface import register_attention

    contents = Contents(open_base(str(folder)), "")
    state: dict[str, torch.Tensor] = {}
    for tensor in GGUFReader(file).tensors:
        if tensor.name in contents.parts:
            values = torch.tensor(dequantize(tensor.data, tensor.tensor_type), dtype=dtype)
            state |= contents.turn_back(tensor.name, values)
    config = contents.model.config
    model = type(build_empty_model(config, str(folder))).from_pretrained(
        None,
        config=config,
        state_dict=state,
        dtype=dtype,
        device_map={"": device},
        attn_implementation=register_attention(attention),
    )
    return model.requires_grad_(False).eval()
