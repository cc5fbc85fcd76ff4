"""What a layer computes beside its GEMMs, in plain PyTorch. `kernels` has the same functions in Triton.

Sums and products are taken in fp32 (fp64 for fp64 inputs) and rounded once. Where an argument is named as an output, it
is written in place and may be a view with any row stride: the left part of a wider matrix that a GEMM reads whole.

Shapes: T tokens, h features, f features of the MLP, H heads of D.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from revinst.model.fused.description import RmsNorm
from revinst.model.fused.mask import Mask, scales

GELU, CUBE = 2 * (2 / math.pi) ** 0.5, 0.044715


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


def norm(x: Tensor, norm: RmsNorm, out: Tensor, mask: Mask | None) -> Tensor:
    """RMSNorm of x [T, h] into out [T, h]. Returns dropout(out), contiguous; out itself without a mask.

    Without a mask x and out may be [T, H, D], a norm of each head.
    """
    normed = exact(x) * torch.rsqrt(exact(x).square().mean(-1, keepdim=True) + norm.eps) * scale_of(norm)
    out.copy_(normed)
    return out if mask is None else (normed * keep(x, mask)).to(x.dtype)


def scale_of(norm: RmsNorm) -> Tensor:
    return exact(norm.weight) + norm.offset


def add_norm(x: Tensor, delta: Tensor, norm_: RmsNorm, out: Tensor, mask: Mask | None) -> tuple[Tensor, Tensor]:
    """(x + delta, `norm` of it)."""
    total = x + delta
    return total, norm(total, norm_, out, mask)


def norm_backward(
    x: Tensor,
    norm: RmsNorm,
    grads: tuple[Tensor, Tensor | None, Tensor | None],
    mask: Mask | None,
    out: Tensor,
    again: bool = True,
) -> Tensor:
    """residual + gradient of x, into out [T, h]. Returns dropout(norm(x)), the LoRA input, once more; unless `again`
    out. Without residual and mask x and out may be [T, H, D], a norm of each head.

    grads: of the norm's output through the base and, dropout not applied, through the adapter; the residual if there is
    one. [T, h].
    """
    base, lora, residual = grads
    wide = exact(x)
    rstd = torch.rsqrt(wide.square().mean(-1, keepdim=True) + norm.eps)
    unit = wide * rstd
    g = add_dropped(base, lora, mask) * scale_of(norm)
    g = rstd * (g - unit * (g * unit).mean(-1, keepdim=True))
    out.copy_(g if residual is None else exact(residual) + g)
    return out if not again else (unit * scale_of(norm) * keep(x, mask)).to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor, backward: bool = False) -> None:
    """RoPE of x [T, H, D] into out [T, H, D], which may be x. cos, sin [T, D], their halves equal."""
    first, second = exact(x).chunk(2, dim=-1)  # [T, H, D / 2]
    c, s = (exact(part)[:, None, : x.shape[-1] // 2] for part in (cos, sin))
    s = -s if backward else s
    out.copy_(torch.cat([first * c - second * s, second * c + first * s], dim=-1))


def glu(gate: Tensor, up: Tensor, activation: str, out: Tensor, mask: Mask | None) -> Tensor:
    """act(gate) * up, each [T, f], into out. Returns dropout(out), contiguous; out itself without a mask."""
    product = activate(exact(gate), activation) * exact(up)
    out.copy_(product)
    return out if mask is None else (product * keep(gate, mask)).to(gate.dtype)


def activate(x: Tensor, activation: str) -> Tensor:
    return F.silu(x) if activation == "silu" else F.gelu(x, approximate="tanh")


def glu_backward(
    gate: Tensor,
    up: Tensor,
    activation: str,
    grad: tuple[Tensor, Tensor | None],
    mask: Mask | None,
    out: tuple[Tensor, Tensor],
) -> Tensor:
    """Gradients of gate and up into out, all [T, f]. Returns dropout(act(gate) * up); may overwrite grad.

    Both activations are g sigmoid(w): SiLU with w = g, GELU's tanh form with w = 2 sqrt(2 / pi) (g + 0.044715 g^3).
    """
    g, u, d = exact(gate), exact(up), add_dropped(*grad, mask)
    w, slope = (g, 1.0) if activation == "silu" else (GELU * (g + CUBE * g**3), GELU * (1 + 3 * CUBE * g * g))
    sigmoid = torch.sigmoid(w)
    out[1].copy_(d * g * sigmoid)
    out[0].copy_(d * u * sigmoid * (1 + g * (1 - sigmoid) * slope))
    return (activate(g, activation) * u * keep(gate, mask)).to(gate.dtype)  # as in `glu`, to the bit


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


# ---- products in 8 bits: a matrix is its e4m3 values and what they are to be multiplied by, [T, 1] or [1, N] ---------

E4M3 = torch.float8_e4m3fn
E4M3_LARGEST = 448.0
SMALLEST = 1e-30  # largest number of a token below which it is taken for zeros: its scale's inverse has to be finite


def fp8_scale(peak: Tensor) -> Tensor:
    """What numbers are divided by of which the largest absolute one is `peak`: fp32, of its shape."""
    return peak.float().clamp(min=SMALLEST) / E4M3_LARGEST


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [T, K], of any row stride -> values [T, K], scale [T, 1]. A row that is not finite is nan in both or either."""
    scale = fp8_scale(x.abs().amax(1, keepdim=True))
    return (x.float() * (1 / scale)).to(E4M3), scale


def fill_base_fp8(base: torch.nn.Linear, scale: Tensor, out: Tensor, transpose: bool) -> None:
    """Writes a base layer's weight [N, K], or its transpose, divided by scale [], into e4m3 out."""
    weight = unpack_base(base)
    out.copy_(((weight.T if transpose else weight).float() * (1 / scale)).to(E4M3))


def multiply_fp8(
    x: tuple[Tensor, Tensor], weight: tuple[Tensor, Tensor], bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """x [T, K] times the transpose of weight [N, K], and a bias [N] -> [T, N]."""
    (values, scale), (weights, weight_scale) = x, weight
    wide = torch.promote_types(dtype, torch.float32)
    y = values.to(wide) @ weights.to(wide).T * scale * weight_scale
    return (y if bias is None else y + bias.to(wide)).to(dtype)
