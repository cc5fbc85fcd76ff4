"""Which bases are written with in slots: what is read of their layers is what they compute, asked of a tiny copy."""

from typing import TYPE_CHECKING

import torch

from revinst.inference.engine.decoder import Decoder
from revinst.model.attention import Needs
from revinst.model.attention_interface import register_recorder
from revinst.model.fused.description import describe
from revinst.model.fused.fp8 import why_no_fp8, why_not_linears
from revinst.model.fused.support import linears_of, why_not
from revinst.model.hardware import choose_hardware
from revinst.model.network import Network
from revinst.model.proof import BOUND, Plain, difference, forked
from revinst.model.rope import BY_LENGTH
from revinst.model.tiny_copy import head_sizes, tiny_copy

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

WRITTEN: dict[tuple[str, str], str] = {}  # what `compare` found, by config and device
STEPS = 5  # tokens of a text that are written one by one


def why_not_decoder(network: Network) -> str:
    """Why there is no `Decoder` of it; empty if there is."""
    if obstacle := why_not_device(network.device):
        return obstacle
    if obstacle := next((obstacle for layer in network.layers if (obstacle := why_not(layer))), ""):
        return obstacle
    rope = getattr(network.decoder.rotary_emb, "rope_type", "default")
    if by_length := [kind for kind in (rope.values() if isinstance(rope, dict) else [rope]) if kind in BY_LENGTH]:
        return f"its rotary angles are {by_length[0]}"
    if getattr(network.head, "bias", None) is not None:
        return "its head has a bias"
    return why_not_written(network.base.config, network.device)


def why_not_device(device: torch.device) -> str:
    return "" if device.type in ("cuda", "cpu") else f"slots are for CUDA GPUs and CPUs, and this is {device.type}"


def why_no_fp8_prefill(network: Network) -> str:
    """Why prompts of one that has a decoder can't be read with products in 8 bits; empty if they can."""
    obstacle = why_no_fp8(choose_hardware(network.device, dtype=network.dtype, needs=needs_of(network)))
    return obstacle or why_not_linears([linear for layer in network.layers for linear in linears_of(layer)], "")


def needs_of(network: Network) -> Needs:
    asked = [describe(layer) for layer in network.layers]
    extras = {"window": any(what.window for what in asked), "soft_cap": any(what.soft_cap for what in asked)}
    return Needs(frozenset(name for name, has in extras.items() if has), head_sizes(network.base.config))


def why_not_written(config: "PreTrainedConfig", device: torch.device) -> str:
    """Why a decoder would write something else than transformers with a base of this config; empty if it would not."""
    tiny = tiny_copy(config)
    asked = (tiny.to_json_string(use_diff=False), str(device))
    if asked not in WRITTEN:
        with forked():
            plain = Plain(tiny, device)
            network = plain.network(register_recorder("eager", torch.float32, set())).requires_grad_(False)
            WRITTEN[asked] = compare(plain, network)
    return WRITTEN[asked]


def compare(plain: Plain, network: Network) -> str:
    """Both documents at once, their last tokens one by one, against plain transformers' logits in fp32."""
    decoder = Decoder(network, "eager", dense=True)
    if decoder.angles(1)[0][0].shape[1] != decoder.head_dim:
        return "it rotates a part of each head"
    expected = torch.stack([logits[-STEPS - 1 :] for logits in plain.logits.split([*map(len, plain.documents)])], dim=1)
    prompts = [ids[:-STEPS].tolist() for ids in plain.documents]
    cache = decoder.new_cache(len(prompts), max(map(len, plain.documents)))
    found = [decoder.prefill(prompts, cache, range(len(prompts)))]
    lengths = torch.tensor([*map(len, prompts)], device=decoder.device)
    for step in range(STEPS):
        tokens = torch.stack([ids[step - STEPS] for ids in plain.documents])
        found.append(decoder.step(tokens, lengths + step, cache, cache.num_positions))
    differs = difference(torch.cat(found), expected.flatten(0, 1), torch.float32)
    if differs < BOUND[torch.float32]:  # a nan is not
        return ""
    return f"its layers compute something else than is read of them (differ by {100 * differs:.2g} %)"
