"""The adapter merged into its base: one ordinary model that needs neither PEFT nor bitsandbytes."""

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


def check_not_merged(base: str) -> None:
    """Refuses an adapter on a model that already has one merged in."""
    if (Path(base) / MARKER).is_file():
        raise UserError(f"{base}: an adapter is already merged into this model; give the base it came from")
