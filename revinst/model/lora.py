"""A fresh LoRA adapter on a base."""

import re
from typing import TYPE_CHECKING

import torch

from revinst.config.settings import LoraSettings
from revinst.errors import UserError
from revinst.model.dropout import Dropout
from revinst.model.network import Network

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

TARGETS_HINT = "name linear layers of the decoder, as in [q_proj, v_proj], or give all-linear"


def attach_lora(model: "PreTrainedModel", settings: LoraSettings, base: str) -> "PeftModel":
    """Wraps the base in a PeftModel with a fresh fp32 adapter whose output is zero.

    It is drawn on the CPU, so a seed gives the same one on every device: Lightning's strategies differ in what is the
    default device while a model is built (2.6.6: FSDP2's sets none).
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )
    on_meta = next(model.parameters()).is_meta
    try:
        with torch.device("meta" if on_meta else "cpu"):
            adapted = get_peft_model(model, config, autocast_adapter_dtype=True)
    except (ValueError, re.error) as error:
        what = str(error).splitlines()[0].rstrip("(.")
        raise UserError(f"model.lora.target_modules {settings.target_modules}: {what}; {TARGETS_HINT}") from error
    check_targets(adapted, settings.target_modules)
    for name, module in list(adapted.named_modules()):
        if isinstance(module, torch.nn.Dropout) and name.endswith(".lora_dropout.default"):
            adapted.set_submodule(name, Dropout(module.p))
    adapted.peft_config["default"].base_model_name_or_path = base
    return adapted


def check_targets(model: "PeftModel", targets: str | list[str]) -> None:
    """Raises UserError for an entry that matches no layer, which PEFT passes over, or one that can't be trained: not
    linear, or behind the decoder, where the loss takes no gradient but that of its input.
    """
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    entries = [] if isinstance(targets, str) else targets
    unmatched = [entry for entry in entries if not any(f".{name}".endswith(f".{entry}") for name in layers)]
    if unmatched or not layers:
        raise UserError(
            f"model.lora.target_modules: {unmatched or targets} matches no layer of the base; {TARGETS_HINT}"
        )
    in_decoder = set(Network(model).decoder.modules())
    for name, layer in layers.items():
        kind = type(layer.get_base_layer()).__name__
        if not isinstance(layer.get_base_layer(), torch.nn.Linear):
            raise UserError(f"model.lora.target_modules: {name} is no linear layer but {kind}; {TARGETS_HINT}")
        if layer not in in_decoder:
            raise UserError(
                f"model.lora.target_modules {targets}: {name} is not part of the decoder, and the loss trains nothing "
                f"behind it; {TARGETS_HINT}"
            )
