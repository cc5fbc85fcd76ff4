"""Whether an adapter that is about to be trained can be merged: what `merge` would refuse is refused before."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from revinst.config.settings import ModelSettings
from revinst.errors import UserError
from revinst.model.adapter import adapter_config, check_plain
from revinst.model.base_files import check_not_quantized
from revinst.model.network import Network
from revinst.model.stored_names import made_of_parts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PREFIX = "base_model.model."  # PEFT's, before the base's own names


def check_mergeable(network: Network, settings: ModelSettings) -> None:
    """network: base and adapter, on the meta device. By the base's config alone, so its files need not be here."""
    from peft.tuners.lora import LoraLayer

    base = network.base
    check_not_quantized(base.config, settings.base)
    check_plain(adapter_config(network.adapted).to_dict(), f"model.base {settings.base}")
    modules = dict(network.adapted.named_modules())
    touched = {name for name, module in modules.items() if isinstance(module, LoraLayer)}
    weights = {f"{name.removeprefix(PREFIX)}.weight" for name in touched}
    if settings.quantization == "nf4":
        weights |= linear_weights(base)
    check_whole(made_of_parts(base, weights), settings.base)


def linear_weights(model: "PreTrainedModel") -> set[str]:
    """Of all linear layers but the head, what `nf4` has in 4 bits, by the base's own names, an adapter on it or not."""
    head = model.get_output_embeddings()
    return {
        f"{name.removesuffix('.base_layer')}.weight"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head and ".lora_" not in name
    }


def check_whole(made: Iterable[str], base: str) -> None:
    """made: weights to change that transformers makes of several of the base's, or of a part of one."""
    if first := min(made, default=""):
        raise UserError(
            f"model.base {base}: its files hold {first} in other parts than its layers, so what is trained on it can't "
            "be merged; leave it out of model.lora.target_modules, and of 4 bits (model.quantization: none)"
        )
