"""What a layer computes beside its GEMMs, in plain PyTorch. `kernels` has the same functions in Triton.

Sums and products are taken in fp32 (fp64 for fp64 inputs) and rounded once. Where an argument is named as an output, it
is written in place and may be a view with any row stride: the left part of a wider matrix that a GEMM reads whole.

Shapes: T tokens, h features, f features of the MLP, H heads of D.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from revinst.model.fused.mask import Mask, scales


def exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def keep(x: Tensor, mask: Mask | None) -> Tensor | float:
    """What dropout multiplies each element of x [T, h] by."""
    return 1.0 if mask is None else scales(mask, x.shape[0], x.shape[1], x.device)


def drop(x: Tensor, mask: Mask | None) -> Tensor:
    """x [T, h] -> the same with dropout applied, contiguous."""
    if mask is None:
        return x
    return (exact(x) * keep(x, mask)).to(x.dtype)


def place(x: Tensor, out: Tensor, mask: Mask | None) -> Tensor:
    """Copies x [T, h] into out. Returns dropout(x), contiguous; x itself without a mask."""
    out.copy_(x)
    return drop(x, mask)


def add_dropped(x: Tensor, lora: Tensor | None, mask: Mask | None) -> Tensor:
    """x + dropout(lora): two parts of a gradient, each [T, h]. lora None: x alone."""
    if lora is None:
        return exact(x)
    return exact(x) + exact(lora) * keep(x, mask)


def add_masked(x: Tensor, lora: Tensor | None, mask: Mask | None) -> Tensor:
    """`add_dropped` in the dtype of x."""
    return x if lora is None else add_dropped(x, lora, mask).to(x.dtype)


def norm(x: Tensor, weight: Tensor, eps: float, out: Tensor, mask: Mask | None) -> Tensor:
    """RMSNorm of x [T, h] into out [T, h]. Returns dropout(out), contiguous; out itself without a mask."""
    normed = exact(x) * torch.rsqrt(exact(x).square().mean(-1, keepdim=True) + eps) * exact(weight)
    out.copy_(normed)
    return out if mask is None else (normed * keep(x, mask)).to(x.dtype)


def add_norm(
    x: Tensor, delta: Tensor, weight: Tensor, eps: float, out: Tensor, mask: Mask | None
) -> tuple[Tensor, Tensor]:
    """(x + delta, `norm` of it)."""
    total = x + delta
    return total, norm(total, weight, eps, out, mask)


def norm_backward(
    x: Tensor,
    weight: Tensor,
    eps: float,
    grads: tuple[Tensor, Tensor | None, Tensor],
    mask: Mask | None,
    out: Tensor,
) -> Tensor:
    """residual + gradient of x, into out [T, h]. Returns dropout(norm(x)), the LoRA input, once more.

    grads: of the norm's output through the base and, dropout not applied, through the adapter; the residual. [T, h].
    """
    base, lora, residual = grads
    wide = exact(x)
    rstd = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    unit = wide * rstd
    g = add_dropped(base, lora, mask) * exact(weight)
    out.copy_(exact(residual) + rstd * (g - unit * (g * unit).mean(-1, keepdim=True)))
    return (unit * exact(weight) * keep(x, mask)).to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor, backward: bool = False) -> None:
    """RoPE of x [T, H, D] into out [T, H, D], which may be x. cos, sin [T, D], their halves equal."""
    first, second = exact(x).chunk(2, dim=-1)  # [T, H, D / 2]
    c, s = (exact(part)[:, None, : x.shape[-1] // 2] for part in (cos, sin))
    s = -s if backward else s
    out.copy_(torch.cat([first * c - second * s, second * c + first * s], dim=-1))


def swiglu(gate: Tensor, up: Tensor, out: Tensor, mask: Mask | None) -> Tensor:
    """silu(gate) * up, each [T, f], into out. Returns dropout(out), contiguous; out itself without a mask."""
    product = F.silu(exact(gate)) * exact(up)
    out.copy_(product)
    return out if mask is None else (product * keep(gate, mask)).to(gate.dtype)


def swiglu_backward(
    gate: Tensor,
    up: Tensor,
    grad: tuple[Tensor, Tensor | None],
    mask: Mask | None,
    out: tuple[Tensor, Tensor],
) -> Tensor:
    """Gradients of gate and up into out, all [T, f]. Returns dropout(silu(gate) * up); may overwrite grad."""
    g, u, d = exact(gate), exact(up), add_dropped(*grad, mask)
    sigmoid = torch.sigmoid(g)
    out[1].copy_(d * g * sigmoid)
    out[0].copy_(d * u * sigmoid * (1 + g * (1 - sigmoid)))
    return (F.silu(g) * u * keep(gate, mask)).to(gate.dtype)  # as in `swiglu`, to the bit


def fill_base(base: torch.nn.Linear, out: Tensor) -> None:
    """Writes a base layer's weight [N, K] into out, unpacking 4 bits."""
    out.copy_(unpack_base(base))


def unpack_base(base: torch.nn.Linear) -> Tensor:
    """A base layer's weight [N, K]; a copy if it is packed."""
    weight = base.weight
    state = getattr(weight, "quant_state", None) or getattr(base, "quant_state", None)  # sharding moves it
    if state is None:
        return weight.detach()
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, state)
