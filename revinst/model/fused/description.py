"""What a decoder layer computes, read from its modules.

    x1 = x + s post1(o(attention(rope(norm(q(pre1(x)))), rope(norm(k(pre1(x)))), v(pre1(x)))))
    out = x1 + s post2(down(act(gate(pre2(x1))) * up(pre2(x1))))

Every norm is an RMSNorm that a layer has or has not; q, k, v may be one linear layer, and gate, up another. Whoever
computes a layer from this asks `revinst.model.proof` first whether it comes out as the layer itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor

from revinst.model.fused.projection import TRAINED, base_of, why_not_linear

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer  # what all of them have

ACTIVATIONS = {"SiLU": "silu", "SiLUActivation": "silu", "GELUTanh": "gelu_tanh", "PytorchGELUTanh": "gelu_tanh"}
NORMS = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
)  # fmt: skip
ASK_THEIR_CONFIG = ("MistralAttention", "Phi3Attention")  # for their window
PARTS = {*NORMS, "self_attn", "mlp", "resid_attn_dropout", "resid_mlp_dropout"}
PARTS_OF_ATTENTION = {"q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "q_norm", "k_norm"}
PARTS_OF_MLP = {"gate_proj", "up_proj", "gate_up_proj", "down_proj", "act_fn", "activation_fn"}


class RmsNorm(NamedTuple):
    """x -> x / sqrt(mean(x^2) + eps) * (weight + offset)."""

    weight: Tensor
    eps: float
    offset: float


@dataclass(frozen=True, slots=True)
class Norm:
    """An RMSNorm as a module: sharding replaces its weight, so it is read anew for each pass."""

    module: torch.nn.Module
    eps: float
    offset: float

    def read(self) -> RmsNorm:
        return RmsNorm(self.module.weight, self.eps, self.offset)  # type: ignore[arg-type]

    @property
    def width(self) -> int:
        return len(self.read().weight)


@dataclass(frozen=True, slots=True)
class Description:
    """qkv, gate_up: names of the linear layers that read one input, in their modules, in the order of their outputs.

    sizes: features of queries, keys and values.
    window: tokens that a token sees, itself included; None: all before it. residual: s. turns: whether queries and
    keys are rotated.
    """

    before_attention: Norm | None
    after_attention: Norm | None
    before_mlp: Norm | None
    after_mlp: Norm | None
    q_norm: Norm | None
    k_norm: Norm | None
    qkv: tuple[str, ...]
    gate_up: tuple[str, ...]
    sizes: tuple[int, int, int]
    head_dim: int
    scaling: float
    window: int | None
    soft_cap: float | None
    turns: bool
    activation: str
    residual: float

    def extras(self, longest: int) -> dict[str, int | float]:
        """Beside the causal mask, for `attention_kernels.py`; a window that holds all of `longest` masks nothing."""
        window = self.window if self.window is not None and self.window < longest else None
        found: dict[str, int | float | None] = {"window": window, "soft_cap": self.soft_cap}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def norm_inputs(self) -> int:
        """Features of what its norms of heads and its norms after blocks read."""
        after = [norm.width for norm in (self.after_attention, self.after_mlp) if norm is not None]
        return sum(after) + (sum(self.sizes[:2]) if self.q_norm or self.k_norm else 0)

    @property
    def norms(self) -> Iterator[Norm]:
        all_of_them = (
            self.before_attention, self.after_attention, self.before_mlp, self.after_mlp, self.q_norm, self.k_norm,
        )  # fmt: skip
        return (norm for norm in all_of_them if norm is not None)


class Undescribed(Exception):
    """Why a layer is none that is described here."""


def describe(layer: torch.nn.Module) -> Description:
    """Raises Undescribed."""
    attention, mlp = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
    if attention is None or mlp is None:
        raise Undescribed(f"{type(layer).__name__} has no self_attn and mlp")
    for module, known in ((layer, PARTS), (attention, PARTS_OF_ATTENTION), (mlp, PARTS_OF_MLP)):
        check_parts(module, known)
    norms = {name: read_norm(getattr(layer, name, None)) for name in NORMS}
    sandwich = norms["post_feedforward_layernorm"] is not None
    first = norms["input_layernorm"]
    if not sandwich and (first is None or norms["post_attention_layernorm"] is None):
        raise Undescribed(f"{type(layer).__name__} is not built as Llama's or Gemma's")
    qkv = those_of(attention, ("q_proj", "k_proj", "v_proj"), ("qkv_proj",))
    return Description(
        before_attention=first,
        after_attention=norms["post_attention_layernorm"] if sandwich else None,
        before_mlp=norms["pre_feedforward_layernorm"] if sandwich else norms["post_attention_layernorm"],
        after_mlp=norms["post_feedforward_layernorm"],
        q_norm=read_norm(getattr(attention, "q_norm", None)),
        k_norm=read_norm(getattr(attention, "k_norm", None)),
        qkv=qkv,
        gate_up=those_of(mlp, ("gate_proj", "up_proj"), ("gate_up_proj",)),
        sizes=sizes_of(attention, qkv),
        head_dim=attention.head_dim,
        scaling=float(attention.scaling),
        window=read_window(attention),
        soft_cap=getattr(attention, "attn_logit_softcapping", None),
        turns=bool(getattr(attention, "use_rope", True)),
        activation=read_activation(mlp),
        residual=float(getattr(layer, "residual_multiplier", 1.0)),
    )


def check_parts(module: torch.nn.Module, known: set[str]) -> None:
    """Raises Undescribed for a module that does something that is not read here."""
    parts = {name for name, part in module.named_children() if not is_idle(part)}
    parts |= {name for name, _ in module.named_parameters(recurse=False)}
    if unknown := sorted(parts - known):
        raise Undescribed(f"{type(module).__name__} has {' and '.join(unknown)}")
    if getattr(module, "attention_dropout", 0):
        raise Undescribed("it has attention dropout")


def is_idle(part: torch.nn.Module) -> bool:
    if isinstance(part, torch.nn.Dropout) and part.p:
        raise Undescribed("it has dropout beside the adapter's")
    return isinstance(part, torch.nn.Dropout | torch.nn.Identity)


def those_of(module: torch.nn.Module, *kinds: tuple[str, ...]) -> tuple[str, ...]:
    found = next((names for names in kinds if all(hasattr(module, name) for name in names)), None)
    if found is None:
        raise Undescribed(f"{type(module).__name__} has no {', '.join(kinds[0])}")
    return found


def read_window(attention: torch.nn.Module) -> int | None:
    """Of the attention itself in most."""
    if type(attention).__name__ in ASK_THEIR_CONFIG:
        return getattr(attention.config, "sliding_window", None)
    window = getattr(attention, "sliding_window", None)
    return window if isinstance(window, int) else None


def read_activation(mlp: torch.nn.Module) -> str:
    module = getattr(mlp, "act_fn", None) or getattr(mlp, "activation_fn", None)
    if (name := type(module).__name__) not in ACTIVATIONS:
        raise Undescribed(f"its activation is {name}")
    return ACTIVATIONS[name]


def read_norm(module: torch.nn.Module | None) -> Norm | None:
    if module is None or isinstance(module, torch.nn.Identity):
        return None
    offset = offset_of(type(module))  # type: ignore[arg-type]  # a class, whatever its instances' hash
    if offset is None or getattr(module, "bias", None) is not None:
        raise Undescribed(f"{type(module).__name__} is no RMSNorm")
    return Norm(module, eps_of(module), offset)


def eps_of(module: torch.nn.Module) -> float:
    return float(getattr(module, "variance_epsilon", None) or module.eps)  # type: ignore[arg-type]


@cache
def offset_of(kind: Callable[[int], torch.nn.Module]) -> float | None:
    """What a class of RMSNorm adds to its weight, asked of one of four features; None: it computes something else."""
    try:
        with torch.device("cpu"), torch.no_grad():
            norm = kind(4)
            weight = cast(Tensor, norm.weight).copy_(torch.tensor([0.5, 1.0, 2.0, 3.0]))
            x = torch.tensor([[1.0, -2.0, 3.0, 0.25]])
            unit = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps_of(norm))
            found = norm(x)
            return next((o for o in (0.0, 1.0) if torch.allclose(found, unit * (weight + o), rtol=1e-5)), None)
    except Exception:  # a class with a constructor of its own
        return None


def modules_of(layer: "LlamaDecoderLayer", description: Description) -> list[list[torch.nn.Module]]:
    """Linear layers of q, k, v; of o; of gate, up; of down. Looked up each time: PEFT wraps and unwraps them."""
    attention, mlp = layer.self_attn, layer.mlp
    return [
        [getattr(attention, name) for name in description.qkv],
        [attention.o_proj],
        [getattr(mlp, name) for name in description.gate_up],
        [mlp.down_proj],
    ]


def why_not_now(layer: "LlamaDecoderLayer", description: Description) -> str:
    """Why its linear layers and norms can't be read as they are at this moment; empty if they can."""
    modules = [module for group in modules_of(layer, description) for module in group]
    if obstacle := next((obstacle for module in modules if (obstacle := why_not_linear(module))), ""):
        return obstacle
    return TRAINED if any(norm.read().weight.requires_grad for norm in description.norms) else ""


def sizes_of(attention: torch.nn.Module, qkv: tuple[str, ...]) -> tuple[int, int, int]:
    queries = base_of(cast(torch.nn.Module, attention.o_proj)).in_features
    outputs = sum(base_of(getattr(attention, name)).out_features for name in qkv)
    return queries, (outputs - queries) // 2, (outputs - queries) // 2
