"""Whether fused layers compute on this machine, at the base's own sizes and weights, what the plain ones do: the first
layer of each kind is tried before it is fused, forward and backward, in the dtype and with the kernels of the run.

`proof.why_not_fused` asks in fp32, of a tiny copy, whether a layer's description is right. This asks whether its
kernels are: unpacking, products in 8 bits, norms, rotation, offloading, as compiled for this GPU. It takes a forward
through the layers up to the last one tried, some tenths of a second, and what is compiled is needed anyway.

Shapes: T tokens, h features.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from revinst.model.fused.description import describe
from revinst.model.fused.fp8 import BaseGemm
from revinst.model.fused.host_memory import HostMemory
from revinst.model.fused.layer import FusedLayer
from revinst.model.fused.support import load_ops
from revinst.model.memory import is_out_of_memory
from revinst.model.network import Network
from revinst.model.proof import DOCUMENTS, first_line, pack

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

Call = tuple[Tensor, dict[str, object]]  # x [1, T, h], and what a layer is called with beside it

SMALLEST = 1e-12  # gradient that is not taken for 0: behind projections of zeros adapters have none
# Relative, of the median token or of an adapter's gradient. Rounding to 16 bits gives 0.01 to 0.03, products in 8 bits
# 0.05 to 0.15; what nobody computed is off by one or more.
BOUND = {"fp32": 1e-2, "16 bits": 0.15, "8 bits": 0.5}


def why_not_computed(
    network: Network, fused: list[int], recomputed: int, kernel: Callable[..., Tensor], gemm: BaseGemm
) -> str:
    """What differs; empty if nothing does. Arguments as of `fused.support.fuse_layers`, of layers that are plain yet.

    Draws nothing from the global random state; adapters and modes are as before afterwards.
    """
    kinds = first_of_each_kind(network.layers, fused)
    for number, (x, others) in zip(kinds, capture(network, kinds), strict=True):
        layer = cast("LlamaDecoderLayer", network.layers[number])
        host = HostMemory(network.device) if number < recomputed else None
        instead = FusedLayer(layer, number, kernel, load_ops(network.device), host, gemm=gemm)
        with trained(layer):
            plain = attempt(layer.forward, layer, x, others)
            try:
                ours = attempt(instead, layer, x, others)
            except Exception as error:  # of a compiler, of a driver: any error
                if is_out_of_memory(error):
                    raise
                return f"layer {number} fails ({first_line(error)})"
        if not plain.is_finite:  # fp16 overflows in some bases, whatever computes them: the first step will say so
            continue
        for what, away in distances(ours, plain).items():
            if not away < bound(network, gemm, what):  # a nan is not
                return f"the {what} of layer {number} differs by {100 * away:.2g} % from the plain layer's"
    return ""


def first_of_each_kind(layers: torch.nn.ModuleList, fused: list[int]) -> list[int]:
    """Numbers of layers that differ in what kernels are asked for."""
    kinds: dict[object, int] = {}
    for number in fused:
        what = describe(layers[number])
        kind = (what.sizes, what.head_dim, what.window, what.soft_cap, what.turns, what.scaling, what.residual)
        kinds.setdefault((kind, what.activation, tuple(norm.width for norm in what.norms)), number)
    return sorted(kinds.values())


class Enough(Exception):
    """The last layer that is wanted was reached."""


def capture(network: Network, numbers: list[int]) -> list[Call]:
    """What these layers are called with for two random documents."""
    calls: list[Call] = []
    generator = torch.Generator().manual_seed(3)
    words = min(500, network.base.config.get_text_config().vocab_size)
    documents = [
        torch.randint(words // 2, words, (n,), generator=generator, device="cpu").to(network.device) for n in DOCUMENTS
    ]

    def note(layer: torch.nn.Module, inputs: tuple[Tensor, ...], others: dict[str, object]) -> None:
        (x,) = inputs
        calls.append((x, others))
        if len(calls) == len(numbers):
            raise Enough

    hooks = [network.layers[number].register_forward_pre_hook(note, with_kwargs=True) for number in numbers]
    try:
        with torch.no_grad(), autocast(network), network.in_eval_mode():
            network.hidden(pack(documents))
    except Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def autocast(network: Network) -> torch.autocast:
    return torch.autocast(network.device.type, network.dtype, enabled=network.dtype != torch.float32)


@contextmanager
def trained(layer: torch.nn.Module) -> Iterator[None]:
    """In training mode without dropout, its adapters' B, which begin as zeros, random."""
    modes = {module: module.training for module in layer.modules()}
    generator = torch.Generator().manual_seed(4)
    changed = [p for name, p in layer.named_parameters() if "lora_B" in name]
    before = [p.detach().clone() for p in changed]
    try:
        layer.train()
        for module in modes:
            if isinstance(module, torch.nn.Dropout):
                module.eval()
        for p in changed:
            p.data.copy_(0.02 * torch.randn(p.shape, generator=generator, device="cpu"))
        yield
    finally:
        for p, value in zip(changed, before, strict=True):
            p.data.copy_(value)
        for module, training in modes.items():
            module.training = training


@dataclass(frozen=True, slots=True)
class Attempt:
    """x, out [T, h] and their gradients, and those of the adapters."""

    x: Tensor
    out: Tensor
    down: Tensor
    grad: Tensor
    of_adapters: list[Tensor]

    @property
    def is_finite(self) -> bool:
        return all(bool(x.isfinite().all()) for x in (self.out, self.grad, *self.of_adapters))


def attempt(forward: Callable[..., Tensor], layer: torch.nn.Module, x: Tensor, others: Mapping[str, object]) -> Attempt:
    x = x.detach().requires_grad_()
    with torch.enable_grad(), torch.autocast(x.device.type, x.dtype, enabled=x.dtype != torch.float32):
        out = forward(x, **others)
    down = torch.randn(out.shape, generator=torch.Generator().manual_seed(5), device="cpu").to(out)
    grad, *of_adapters = torch.autograd.grad(out, [x, *(p for p in layer.parameters() if p.requires_grad)], down)
    wide = {name: part.detach()[0].float() for name, part in {"x": x, "out": out, "down": down, "grad": grad}.items()}
    return Attempt(**wide, of_adapters=of_adapters)


def distances(ours: Attempt, plain: Attempt) -> dict[str, float]:
    """Of what a layer adds to the stream, and to the gradient that comes down it. Where that is little beside what
    passes by, the rounding of the sum is most of what differs, so a tenth of the latter counts too.
    """

    def of_tokens(got: Tensor, expected: Tensor, passing: Tensor) -> float:
        size = (expected - passing).norm(dim=-1) + 0.1 * passing.norm(dim=-1)
        return ((got - expected).norm(dim=-1) / size).median().item()

    pairs = zip(ours.of_adapters, plain.of_adapters, strict=True)
    return {
        "output": of_tokens(ours.out, plain.out, plain.x),
        "gradient": of_tokens(ours.grad, plain.grad, plain.down),
        "adapter's gradient": max(
            (((a - b).norm() / b.norm().clamp(min=SMALLEST)).item() for a, b in pairs), default=0.0
        ),
    }


def bound(network: Network, gemm: BaseGemm, what: str) -> float:
    if gemm.kind == "fp8" or (gemm.kind == "fp8_backward" and what != "output"):
        return BOUND["8 bits"]
    return BOUND["fp32" if network.dtype == torch.float32 else "16 bits"]
