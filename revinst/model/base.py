"""The frozen base: a causal language model in 4 bits, on one device."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from revinst.config.words import QUANTIZATIONS, check_word
from revinst.errors import UserError
from revinst.model.fingerprint import check_folder
from revinst.progress import Stage, on_terminal

if TYPE_CHECKING:
    from bitsandbytes.nn import Linear4bit, Params4bit
    from transformers import PreTrainedConfig, PreTrainedModel


def load_base(
    base: str,
    device: torch.device,
    quantization: str = "nf4",
    attention: str = "sdpa",
    dtype: torch.dtype = torch.bfloat16,
) -> "PreTrainedModel":
    """Loads a hub id or folder onto `device`, frozen, for training or generation.

    quantization: `nf4` (4-bit NormalFloat, double quantisation, https://arxiv.org/abs/2305.14314) or `none`.
    attention: a backend of `model/attention.py`. dtype: of what is not quantised, and of the 4-bit layers' compute.
    Raises UserError when there is no such model, or no weights in the folder.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig

    from revinst.model.attention_interface import register_attention

    check_word("model.quantization", quantization, QUANTIZATIONS)
    options: dict[str, Any] = {}
    if quantization == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    try:
        with Stage(f"loading {base}", brief=True, bar=False), no_bar_in_files():
            loaded = AutoModelForCausalLM.from_pretrained(
                check_folder(base),
                dtype=dtype,
                device_map={"": device},
                attn_implementation=register_attention(attention),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # a bad file is an error of transformers, safetensors or torch, of many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"model.base {base}: it can't be loaded ({reason})") from error
    model, report = cast("tuple[PreTrainedModel, dict[str, Any]]", loaded)
    if missing := sorted(report["missing_keys"]):  # transformers makes random ones, with a warning
        raise UserError(f"model.base {base}: {len(missing)} of its tensors are in no file, the first is {missing[0]}")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    # Llama 2 ships sampling settings that are invalid without do_sample and would leak into every call.
    ids = {name: getattr(model.generation_config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(**ids)
    model.config.use_cache = False  # a cache in the forward would undo the isolation of packed documents
    keep_cpu_training_exact(model)
    return model


@contextmanager
def no_bar_in_files() -> Iterator[None]:
    """transformers (5.23) draws its bar into a file too, one copy after the other on a line of kilobytes."""
    from transformers.utils import logging

    is_drawn = logging.is_progress_bar_enabled()
    if is_drawn and not on_terminal():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if is_drawn:
            logging.enable_progress_bar()


def read_config(base: str) -> "PreTrainedConfig":
    """Raises UserError for one that transformers can't read."""
    from transformers import AutoConfig

    folder = Path(base).expanduser()
    try:
        return AutoConfig.from_pretrained(folder if folder.is_dir() else base, trust_remote_code=False)
    except Exception as error:  # a wrong value fails where it is used, in many ways
        raise bad_config(base, error) from error


def bad_config(base: str, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return UserError(f"model.base {base}: its config can't be read ({reason})")


def keep_cpu_training_exact(model: torch.nn.Module) -> None:
    """Turns off bitsandbytes' in-place repacking for AVX512-BF16 CPUs.

    Its kernel has no gradient, and once an eval forward has repacked the weights, later training steps run on it and
    lose what flows back through the quantised layers (bitsandbytes 0.50.2, `nn/modules.py`).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010


def is_quantized(model: torch.nn.Module) -> bool:
    return any(type(module).__name__ == "Linear4bit" for module in model.modules())


def round_to_nf4(weight: Tensor) -> Tensor:
    """The values that `weight` [out, in] has as a 4-bit layer of `load_base`, in its own dtype, on its own device.

    Computed on the GPU if there is one, as in training: bitsandbytes (0.50.2) packs the same 4-bit numbers on both, but
    a CPU rounds the scale of 0.02 to 0.3 % of the blocks of 64 to the other of two neighbours (see the GPU test).
    """
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    there = weight.cuda() if torch.cuda.is_available() else weight
    packed, state = quantize_4bit(there, quant_type="nf4", compress_statistics=True)
    return dequantize_4bit(packed, state).to(weight)


def dequantize_base(model: "PreTrainedModel") -> "PreTrainedModel":
    """Replaces 4-bit layers by bf16 ones of exactly the dequantised values, in place; faster, four times the memory."""
    from bitsandbytes.functional import dequantize_4bit

    for name, module in list(model.named_modules()):
        if type(module).__name__ != "Linear4bit":
            continue
        packed = cast("Linear4bit", module)
        state = cast("Params4bit", packed.weight).quant_state
        weight = dequantize_4bit(packed.weight.data, state).to(packed.compute_dtype)
        linear = torch.nn.Linear(packed.in_features, packed.out_features, bias=packed.bias is not None, device="meta")
        linear.weight = torch.nn.Parameter(weight, requires_grad=False)
        if packed.bias is not None:
            linear.bias = packed.bias
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, linear)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_loaded_in_4bit = model.is_quantized = False  # type: ignore[assignment]  # transformers declares neither
    return model
