"""The adapter merged into its base: one ordinary model that needs neither PEFT nor bitsandbytes."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, cast

import torch

from revinst.errors import UserError

MARKER = "revinst_merge.json"


@torch.no_grad()
def merge_adapter(model: Any) -> Any:
    """Adds each adapter's update to its layer, in fp32, rounded once to the layer's dtype; returns the bare base.

    model: a PeftModel on a base whose 4-bit layers were dequantised. The adapter was trained against exactly those
    weights; merging onto the 16-bit originals would add a quantisation error that it never saw.
    """
    from peft.tuners.lora import LoraLayer

    for module in model.modules():
        if not isinstance(module, LoraLayer):
            continue
        layer = module.get_base_layer()
        if not isinstance(layer, torch.nn.Linear):
            raise UserError(f"an adapter on {type(layer).__name__} can't be merged exactly; only linear layers can")
        if type(layer).__name__ == "Linear4bit":
            raise UserError(
                "merging into 4-bit weights would round most of the adapter away; dequantise the base first"
            )
        lora_a, lora_b = (cast(torch.nn.Linear, part["default"]) for part in (module.lora_A, module.lora_B))
        update = lora_b.weight.float() @ lora_a.weight.float()
        merged = layer.weight.float() + module.scaling["default"] * update
        layer.weight = torch.nn.Parameter(merged.to(layer.weight.dtype), requires_grad=False)
    return model.unload()


def save_merged(model: Any, tokenizer: Any, folder: Path, record: dict[str, Any]) -> None:
    """Writes model, tokenizer and a record of what was merged, through a temporary folder: all of it or nothing."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        model.config.use_cache = True
        model.save_pretrained(str(temporary), max_shard_size="5GB")
        tokenizer.save_pretrained(str(temporary))
        (temporary / MARKER).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_not_merged(base: str, adapter: Path) -> None:
    """Refuses an adapter on a model that it is already merged into: it would count twice. Another one may go on top."""
    marker = Path(base).expanduser() / MARKER
    if not marker.is_file():
        return
    try:
        merged = json.loads(marker.read_text(encoding="utf-8"))["adapter_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{marker}: can't be read, so nobody knows which adapter is in this model") from None
    if merged == adapter_sha256(adapter):
        raise UserError(f"{base}: this adapter is already merged into this model; give the base it came from")


def adapter_sha256(adapter: Path) -> str:
    """Of the adapter's tensors, whatever folder they lie in."""
    path = adapter / "adapter_model.safetensors"
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from None
