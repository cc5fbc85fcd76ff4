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
from revinst.data.tokenizer_files import write_tokenizer
from revinst.errors import UserError
from revinst.export.config_files import write_config, write_special_ids
from revinst.model.adapter import read_adapter_state, wrap_adapter
from revinst.model.base import round_to_nf4
from revinst.model.base_files import BaseFiles, build_empty_model, open_base, write_tensors
from revinst.model.mergeable import PREFIX, check_whole, linear_weights
from revinst.model.stored_names import match_names

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SHARD_BYTES = 2 * 10**9
READ_PAST = (
    ".dt_proj"  # Mamba's and Jamba's: multiplied with as a tensor, so PEFT's part of the layer is never computed
)


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
    """A merge that has been checked and not yet made. All names are those of the base's files.

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
    model = build_empty_model(files.config, base)
    names = match_names(model, files.files)
    stored = {name: names.own.get(name, name) for name in model.state_dict()}
    ties = {stored.get(a, a): stored.get(b, b) for a, b in model.all_tied_weights_keys.items()}
    shapes = {stored[name]: tensor.shape for name, tensor in model.state_dict().items() if name not in names.made}
    quantized = set(linear_weights(model))
    wrapped = wrap_adapter(model, adapter, low_cpu_mem_usage=True)

    def base_tensor(name: str) -> Tensor | None:
        name = name.removeprefix(PREFIX).replace(".base_layer.", ".")
        name = stored.get(name, name)
        name = ties.get(name, name) if name not in files.files else name
        return files.read(name) if name in files.files else None

    state = read_adapter_state(wrapped, adapter, base_tensor)
    updates = find_updates(wrapped, state)
    replaced = {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if "lora_" not in name}
    touched = updates.keys() | replaced.keys()
    check_whole(names.made & (touched | quantized if onto == "nf4" else touched), base)
    updates = {stored[name]: update for name, update in updates.items()}
    replaced = {stored[name]: tensor for name, tensor in replaced.items()}
    sources = untie(files.config, ties, updates.keys() | replaced.keys())
    for name in ties.keys() - sources.keys():
        shapes.pop(name, None)
    check_shapes(files, {sources.get(name, name): shape for name, shape in shapes.items() if name not in replaced})
    shapes |= {name: files.shape(name) for name in names.parts}
    return Merge(files, onto, shapes, sources, {stored[name] for name in quantized}, updates, replaced)


def check_shapes(files: BaseFiles, shapes: dict[str, torch.Size]) -> None:
    """shapes: of the tensors that will be read. Raises UserError for one that is not there, or has another shape."""
    missing = sorted(shapes.keys() - files.files.keys())
    if missing:
        raise UserError(f"{files.folder}: {len(missing)} tensors are missing, the first is {missing[0]}")
    for name, shape in shapes.items():
        if (found := files.shape(name)) != shape:
            raise UserError(f"{files.folder}: {name} is {list(found)}, its config.json says {list(shape)}")


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
        if name.endswith(READ_PAST):
            raise UserError(f"an adapter on {name.removeprefix(PREFIX)} can't be merged: the model computes without it")
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
    write_config(merge.base.config, folder)


def write_text_files(folder: Path, config: "PretrainedConfig", tokenizer: Tokenizer, *, add_bos: bool = True) -> None:
    """The tokenizer, and greedy generation settings with its special ids, which `config` gets too.

    add_bos: as of `write_tokenizer`.
    """
    write_tokenizer(tokenizer, folder, add_bos=add_bos)
    write_special_ids(folder, config, tokenizer)
    write_config(config, folder)
