"""The adapter merged into its base: one ordinary model that needs neither PEFT nor bitsandbytes.

The base is read, and the result written, tensor by tensor, so memory follows the largest one and not the model. What is
added to what, PEFT itself says, from the model's architecture without its weights.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from revinst.data.tokenizer import Tokenizer
from revinst.errors import UserError
from revinst.model.adapter import read_adapter_state, wrap_adapter
from revinst.model.base import round_to_nf4
from revinst.model.base_files import BaseFiles, build_empty_model, open_base, write_tensors

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

SHARD_BYTES = 2 * 10**9

PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class Update:
    """What an adapter adds to one layer: scale * b @ a; with DoRA's `magnitude` [out], each row gets that length."""

    a: Tensor
    b: Tensor
    scale: float
    magnitude: Tensor | None = None

    def apply(self, weight: Tensor) -> Tensor:
        """weight [out, in] -> fp32 [out, in]; DoRA: https://arxiv.org/abs/2402.09353, equation 5."""
        merged = weight.float().addmm(self.b.float(), self.a.float(), alpha=self.scale)
        if self.magnitude is not None:
            merged *= (self.magnitude.float() / merged.norm(dim=1))[:, None]
        return merged


@dataclass(slots=True)
class Merge:
    """A merge that has been checked and not yet made.

    shapes: of every tensor to write. sources: where one is read from, if not under its own name. quantized: weights
    that were 4-bit in training. replaced: tensors that the adapter brings whole (PEFT's modules_to_save).
    """

    base: BaseFiles
    onto: str
    shapes: dict[str, torch.Size]
    sources: dict[str, str]
    quantized: set[str]
    updates: dict[str, Update]
    replaced: dict[str, Tensor]

    @torch.no_grad()
    def tensor(self, name: str) -> Tensor:
        """bf16, rounded once."""
        if name in self.replaced:
            return self.replaced[name].to(torch.bfloat16).contiguous()
        weight = self.base.read(self.sources.get(name, name))
        if weight.shape != self.shapes[name]:
            raise UserError(
                f"{self.base.folder}: {name} is {list(weight.shape)}, its config.json says {list(self.shapes[name])}"
            )
        if self.onto == "nf4" and name in self.quantized:
            weight = round_to_nf4(weight.to(torch.bfloat16))
        if name in self.updates:
            weight = self.updates[name].apply(weight)
        return weight.to(torch.bfloat16).contiguous()


def plan_merge(base: str, adapter: Path, onto: str) -> Merge:
    """Reads the base's headers and the whole adapter. Raises UserError for what does not fit together.

    onto: `nf4`, the 4-bit weights' exact values, which a QLoRA adapter was trained against, or `16bit`, the base's own.
    """
    files = open_base(base)
    model = build_empty_model(files.config)
    ties = dict(model.all_tied_weights_keys)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    head = model.get_output_embeddings()
    quantized = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    wrapped = wrap_adapter(model, adapter, low_cpu_mem_usage=True)

    def base_tensor(name: str) -> Tensor | None:
        name = name.removeprefix(PREFIX).replace(".base_layer.", ".")
        name = ties.get(name, name) if name not in files.files else name
        return files.read(name) if name in files.files else None

    state = read_adapter_state(wrapped, adapter, base_tensor)
    updates = find_updates(wrapped, state)
    replaced = {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if "lora_" not in name}
    sources = untie(files.config, ties, updates.keys() | replaced.keys())
    for name in ties.keys() - sources.keys():
        shapes.pop(name, None)
    missing = sorted(name for name in shapes if sources.get(name, name) not in files.files and name not in replaced)
    if missing:
        raise UserError(f"{files.folder}: {len(missing)} tensors are missing, the first is {missing[0]}")
    return Merge(files, onto, shapes, sources, quantized, updates, replaced)


def find_updates(model: torch.nn.Module, state: dict[str, Tensor]) -> dict[str, Update]:
    """By the name of the weight, in the base's own spelling."""
    from peft.tuners.lora import LoraLayer

    updates = {}
    for name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        if not isinstance(module.get_base_layer(), torch.nn.Linear):
            kind = type(module.get_base_layer()).__name__
            raise UserError(f"an adapter on {kind} ({name}) can't be merged exactly; only linear layers can")
        a, b = (state[f"{name}.lora_{part}.weight"] for part in "AB")
        magnitude = state.get(f"{name}.lora_magnitude_vector")
        updates[f"{name.removeprefix(PREFIX)}.weight"] = Update(a, b, module.scaling["default"], magnitude)
    return updates


def untie(config: "PretrainedConfig", ties: dict[str, str], touched: set[str]) -> dict[str, str]:
    """Where tied tensors that the adapter makes different are read from; `config` then no longer ties them."""
    if not any(name in touched for pair in ties.items() for name in pair):
        return {}
    config.tie_word_embeddings = False
    return ties


def write_merge(
    merge: Merge, folder: Path, progress: Callable[[Iterable[str]], Iterable[str]] = iter, more_bytes: int = 0
) -> None:
    """Writes the shards, their index and config.json into an existing folder. more_bytes: that will follow there."""
    from huggingface_hub import split_torch_state_dict_into_shards

    empty = {name: torch.empty(shape, dtype=torch.bfloat16, device="meta") for name, shape in merge.shapes.items()}
    shards = split_torch_state_dict_into_shards(empty, max_shard_size=SHARD_BYTES)
    needed = sum(tensor.nbytes for tensor in empty.values()) + more_bytes
    if shutil.disk_usage(folder).free < needed:
        raise UserError(f"{folder.parent}: {needed / 1e9:.1f} GB are needed and fewer are free")
    for file in progress(shards.filename_to_tensors):
        shapes = {name: merge.shapes[name] for name in shards.filename_to_tensors[file]}
        write_tensors(folder / file, shapes, merge.tensor)
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        text = json.dumps(index, indent=2) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8", newline="\n")
    merge.base.config.use_cache = True
    merge.base.config.dtype = torch.bfloat16
    merge.base.config.save_pretrained(folder)


def write_text_files(folder: Path, config: "PretrainedConfig", tokenizer: Tokenizer) -> None:
    """The tokenizer and greedy generation settings, with one end and one padding token throughout.

    The end is the tokenizer's EOS, which training taught. Padding is what the tokenizer or the base says, else the
    unknown token, as in our own batches; never a new token, which would have no embedding.
    """
    from transformers import GenerationConfig

    hf = tokenizer.hf
    pad_id = hf.pad_token_id if hf.pad_token_id is not None else tokenizer.pad_id
    hf.pad_token = hf.convert_ids_to_tokens(pad_id)
    begin_with_bos(hf, tokenizer.bos_id)
    hf.save_pretrained(str(folder))
    config.bos_token_id, config.eos_token_id, config.pad_token_id = tokenizer.bos_id, tokenizer.eos_id, pad_id
    config.save_pretrained(folder)
    GenerationConfig(
        bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.eos_id, pad_token_id=pad_id, do_sample=False
    ).save_pretrained(str(folder))


def begin_with_bos(hf: "PreTrainedTokenizerFast", bos_id: int | None) -> None:
    """Makes a tokenizer that has a BOS but adds none add it, since every prompt in training began with it."""
    from tokenizers.processors import TemplateProcessing

    if bos_id is None or hf("x").input_ids[0] == bos_id:
        return
    bos = hf.convert_ids_to_tokens(bos_id)
    hf.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B:1", special_tokens=[(bos, bos_id)]
    )
