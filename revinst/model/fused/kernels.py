# ruff: noqa: PLR0917  (a kernel takes its pointers and sizes by position)
"""The functions of `reference` as Triton kernels: same names, arguments and results.

One program a row (norms, RoPE) or a piece of a row (the others). Sums and products in fp32, rounded once.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from revinst.model.fused import reference
from revinst.model.fused.description import RmsNorm
from revinst.model.fused.mask import Mask
from revinst.model.fused.weight_kernels import fill_base, fill_base_fp8  # noqa: F401  (two of `reference`'s names)

PIECE = 2048  # elements of a row for one program
NO_MASK = Mask(0.0, (0, 0))
SEEDS = ["seed_a", "seed_b", "threshold"]  # values that change from call to call must not compile a kernel each


@triton.jit
def keep_scale(index, seed_a, seed_b, threshold, scale):
    """0 or `scale` for each element by its index, as `mask.scales`."""
    bits = index.to(tl.uint32) ^ seed_a.to(tl.uint32)
    bits = (bits ^ (bits >> 16)) * 0x7FEB352D
    bits = bits ^ seed_b.to(tl.uint32)
    bits = (bits ^ (bits >> 15)) * 0x846CA68B
    bits = bits ^ (bits >> 16)
    return tl.where((bits >> 8).to(tl.int32) >= threshold, scale, 0.0)


@triton.jit(do_not_specialize=SEEDS)
def norm_kernel(
    x, delta, total, weight, out, dropped, columns, x_stride, out_stride, eps, offset,
    seed_a, seed_b, threshold, scale,
    ADD: tl.constexpr, DROP: tl.constexpr, BLOCK: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    """SIDE: rows that lie side by side in x and out, as heads of a token do; strides are from the first to the next."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    from_first = (row % SIDE) * columns + column
    value = tl.load(x + (row // SIDE) * x_stride + from_first, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        value += tl.load(delta + row * columns + column, mask=inside, other=0.0).to(tl.float32)
        value = value.to(total.dtype.element_ty)
        tl.store(total + row * columns + column, value, mask=inside)
        value = value.to(tl.float32)
    rstd = tl.rsqrt(tl.sum(value * value) / columns + eps)
    value = value * rstd * (tl.load(weight + column, mask=inside, other=0.0).to(tl.float32) + offset)
    tl.store(out + (row // SIDE) * out_stride + from_first, value.to(out.dtype.element_ty), mask=inside)
    if DROP:
        value *= keep_scale(row * columns + column, seed_a, seed_b, threshold, scale)
        tl.store(dropped + row * columns + column, value.to(dropped.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=SEEDS)
def norm_backward_kernel(
    x, weight, grad, lora, residual, out, dropped, columns, x_stride, residual_stride, out_stride, eps, offset,
    seed_a, seed_b, threshold, scale,
    DROP: tl.constexpr, BLOCK: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    here = row * columns + column
    from_first = (row % SIDE) * columns + column
    value = tl.load(x + (row // SIDE) * x_stride + from_first, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32) + offset
    g = tl.load(grad + here, mask=inside, other=0.0).to(tl.float32)
    rstd = tl.rsqrt(tl.sum(value * value) / columns + eps)
    unit = value * rstd
    normed = unit * w
    if DROP:
        keep = keep_scale(here, seed_a, seed_b, threshold, scale)
        if lora is not None:
            g += keep * tl.load(lora + here, mask=inside, other=0.0).to(tl.float32)
        normed *= keep
    if dropped is not None:
        tl.store(dropped + here, normed.to(dropped.dtype.element_ty), mask=inside)
    g *= w
    g = rstd * (g - unit * (tl.sum(g * unit) / columns))
    if residual is not None:
        g += tl.load(residual + row * residual_stride + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + (row // SIDE) * out_stride + from_first, g.to(out.dtype.element_ty), mask=inside)


@triton.jit
def rotate_kernel(
    x, cos, sin, out, heads, x_stride, out_stride, x_head, out_head, sign,
    HALF: tl.constexpr, HEADS: tl.constexpr, HALF_BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, HALF_BLOCK)[None, :]
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]
    inside = (head < heads) & (column < HALF)
    angle = row * 2 * HALF + column
    c = tl.load(cos + angle, mask=column < HALF, other=0.0).to(tl.float32)
    s = tl.load(sin + angle, mask=column < HALF, other=0.0).to(tl.float32) * sign
    source = x + row * x_stride + head * x_head + column
    first = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(source + HALF, mask=inside, other=0.0).to(tl.float32)
    target = out + row * out_stride + head * out_head + column
    tl.store(target, (first * c - second * s).to(out.dtype.element_ty), mask=inside)
    tl.store(target + HALF, (second * c + first * s).to(out.dtype.element_ty), mask=inside)


@triton.jit
def gelu_argument(g):
    """w where GELU's tanh form is g sigmoid(w)."""
    return 1.5957691216057308 * (g + 0.044715 * g * g * g)


@triton.jit(do_not_specialize=SEEDS)
def glu_kernel(
    gate, up, out, dropped, columns, gate_stride, up_stride, out_stride,
    seed_a, seed_b, threshold, scale,
    DROP: tl.constexpr, GELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    g = tl.load(gate + row * gate_stride + column, mask=inside, other=0.0).to(tl.float32)
    w = gelu_argument(g) if GELU else g
    value = g * tl.sigmoid(w) * tl.load(up + row * up_stride + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_stride + column, value.to(out.dtype.element_ty), mask=inside)
    if DROP:
        value *= keep_scale(row * columns + column, seed_a, seed_b, threshold, scale)
        tl.store(dropped + row * columns + column, value.to(dropped.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=SEEDS)
def glu_backward_kernel(
    gate, up, grad, lora, grad_gate, grad_up, dropped, columns, gate_stride, up_stride, out_stride,
    seed_a, seed_b, threshold, scale,
    DROP: tl.constexpr, GELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    here = row * columns + column
    g = tl.load(gate + row * gate_stride + column, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + row * up_stride + column, mask=inside, other=0.0).to(tl.float32)
    d = tl.load(grad + here, mask=inside, other=0.0).to(tl.float32)
    sigmoid = tl.sigmoid(gelu_argument(g) if GELU else g)
    product = g * sigmoid * u
    if DROP:
        keep = keep_scale(here, seed_a, seed_b, threshold, scale)
        if lora is not None:
            d += keep * tl.load(lora + here, mask=inside, other=0.0).to(tl.float32)
        product *= keep
    target = row * out_stride + column
    tl.store(grad_up + target, (d * g * sigmoid).to(grad_up.dtype.element_ty), mask=inside)
    rest = g * (1 - sigmoid)
    if GELU:
        rest *= 1.5957691216057308 * (1 + 3 * 0.044715 * g * g)
    tl.store(grad_gate + target, (d * u * sigmoid * (1 + rest)).to(grad_gate.dtype.element_ty), mask=inside)
    tl.store(dropped + here, product.to(dropped.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=SEEDS)
def dropout_kernel(
    x, lora, copy, out, columns, x_stride, copy_stride, seed_a, seed_b, threshold, scale,
    DROP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out: dropout(x), or x + dropout(lora). copy: x, if wanted."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    here = row * columns + column
    value = tl.load(x + row * x_stride + column, mask=inside, other=0.0)
    if copy is not None:
        tl.store(copy + row * copy_stride + column, value, mask=inside)
    if DROP:
        value = value.to(tl.float32)
        keep = keep_scale(here, seed_a, seed_b, threshold, scale)
        if lora is None:
            value *= keep
        else:
            value += keep * tl.load(lora + here, mask=inside, other=0.0).to(tl.float32)
        tl.store(out + here, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def quantize_rows_kernel(x, out, scale, columns, x_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    value = tl.load(x + row * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    size = tl.abs(value)
    size = tl.where(size < float("inf"), size, float("inf"))  # of nan too; the conversion alone would clip infinity
    row_scale = tl.maximum(tl.max(size), 1e-30) / 448.0
    tl.store(scale + row, row_scale)
    tl.store(out + row * columns + column, (value * (1.0 / row_scale)).to(out.dtype.element_ty), mask=inside)


# ---- the same functions as in `reference` ---------------------------------------------------------------------------


def mask_arguments(mask: Mask | None) -> tuple[int, int, int, float]:
    mask = mask or NO_MASK
    return *mask.seeds, mask.threshold, mask.scale


def row_launch(columns: int) -> dict[str, Any]:
    block = triton.next_power_of_2(columns)
    return {"BLOCK": block, "num_warps": min(max(block // 512, 1), 16)}


def piece_launch(x: Tensor) -> tuple[tuple[int, int], dict[str, Any]]:
    block = min(triton.next_power_of_2(x.shape[1]), PIECE)
    return (x.shape[0], triton.cdiv(x.shape[1], block)), {"BLOCK": block, "num_warps": max(block // 512, 1)}


def drop(x: Tensor, mask: Mask | None) -> Tensor:
    return x if mask is None else launch_dropout(x, None, None, mask)


def add_masked(x: Tensor, lora: Tensor | None, mask: Mask | None) -> Tensor:
    return x if lora is None else launch_dropout(x, lora, None, mask)


def place(x: Tensor, out: Tensor, mask: Mask | None) -> Tensor:
    return launch_dropout(x, None, out, mask)


def launch_dropout(x: Tensor, lora: Tensor | None, copy: Tensor | None, mask: Mask | None) -> Tensor:
    out = x if mask is None else x.new_empty(x.shape)
    grid, launch = piece_launch(x)
    dropout_kernel[grid](
        x, lora, copy, out, x.shape[1], x.stride(0), 0 if copy is None else copy.stride(0), *mask_arguments(mask),
        DROP=mask is not None, **launch,
    )  # fmt: skip
    return out


def norm(x: Tensor, norm: RmsNorm, out: Tensor, mask: Mask | None) -> Tensor:
    return launch_norm(x, None, norm, out, mask)[1]


def add_norm(x: Tensor, delta: Tensor, norm: RmsNorm, out: Tensor, mask: Mask | None) -> tuple[Tensor, Tensor]:
    return launch_norm(x, delta, norm, out, mask)


def launch_norm(
    x: Tensor, delta: Tensor | None, norm: RmsNorm, out: Tensor, mask: Mask | None
) -> tuple[Tensor, Tensor]:
    """(x + delta, dropout of its norm)."""
    columns, side = x.shape[-1], side_by_side(x)
    assert side == side_by_side(out) and (mask is None or side == 1)
    total = x if delta is None else torch.empty_like(x)
    dropped = out if mask is None else x.new_empty(x.shape)
    assert delta is None or (x.is_contiguous() and delta.is_contiguous())
    norm_kernel[(len(x) * side,)](
        x, delta, total, norm.weight, out, dropped, columns, x.stride(0), out.stride(0), norm.eps, norm.offset,
        *mask_arguments(mask), ADD=delta is not None, DROP=mask is not None, SIDE=side, **row_launch(columns),
    )  # fmt: skip
    return total, dropped


def side_by_side(x: Tensor) -> int:
    """Rows of x [T, h] or [T, H, D] that lie next to each other: 1 or H."""
    assert x.stride(-1) == 1 and (x.dim() == 2 or x.stride(1) == x.shape[2])
    return 1 if x.dim() == 2 else x.shape[1]


def norm_backward(
    x: Tensor,
    norm: RmsNorm,
    grads: tuple[Tensor, Tensor | None, Tensor | None],
    mask: Mask | None,
    out: Tensor,
    again: bool = True,
) -> Tensor:
    base, _, residual = grads
    columns, side, dropped = x.shape[-1], side_by_side(x), x.new_empty(x.shape) if again else None
    assert base.is_contiguous() and side == side_by_side(out)
    norm_backward_kernel[(len(x) * side,)](
        x, norm.weight, *grads, out, dropped, columns, x.stride(0), 0 if residual is None else residual.stride(0),
        out.stride(0), norm.eps, norm.offset, *mask_arguments(mask), DROP=mask is not None, SIDE=side,
        **row_launch(columns),
    )  # fmt: skip
    return out if dropped is None else dropped


def rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor, backward: bool = False) -> None:
    tokens, heads, size = x.shape
    assert x.stride(2) == out.stride(2) == 1 and cos.is_contiguous() and sin.is_contiguous()
    half, some = triton.next_power_of_2(size // 2), 16
    rotate_kernel[(tokens, triton.cdiv(heads, some))](
        x, cos, sin, out, heads, x.stride(0), out.stride(0), x.stride(1), out.stride(1), -1.0 if backward else 1.0,
        HALF=size // 2, HEADS=some, HALF_BLOCK=half, num_warps=2,
    )  # fmt: skip


def glu(gate: Tensor, up: Tensor, activation: str, out: Tensor, mask: Mask | None) -> Tensor:
    dropped = out if mask is None else gate.new_empty(gate.shape)
    grid, launch = piece_launch(gate)
    glu_kernel[grid](
        gate, up, out, dropped, gate.shape[1], gate.stride(0), up.stride(0), out.stride(0), *mask_arguments(mask),
        DROP=mask is not None, GELU=activation == "gelu_tanh", **launch,
    )  # fmt: skip
    return dropped


def glu_backward(
    gate: Tensor,
    up: Tensor,
    activation: str,
    grad: tuple[Tensor, Tensor | None],
    mask: Mask | None,
    out: tuple[Tensor, Tensor],
) -> Tensor:
    dropped = grad[0]  # each program reads its part of it before it writes
    grid, launch = piece_launch(gate)
    glu_backward_kernel[grid](
        gate, up, *grad, *out, dropped, gate.shape[1], gate.stride(0), up.stride(0), out[0].stride(0),
        *mask_arguments(mask), DROP=mask is not None, GELU=activation == "gelu_tanh", **launch,
    )  # fmt: skip
    return dropped


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    assert x.stride(1) == 1
    out = torch.empty(x.shape, dtype=reference.E4M3, device=x.device)
    scale = torch.empty(len(x), 1, dtype=torch.float32, device=x.device)
    quantize_rows_kernel[(len(x),)](x, out, scale, x.shape[1], x.stride(0), **row_launch(x.shape[1]))
    return out, scale


FAST_SUMS = True  # in about 14 bits (https://arxiv.org/abs/2412.19437, section 3.5.2); e4m3 rounds to 4


def multiply_fp8(
    x: tuple[Tensor, Tensor], weight: tuple[Tensor, Tensor], bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    (values, scale), (weights, weight_scale) = x, weight
    bias = None if bias is None else bias.to(dtype)
    return torch._scaled_mm(
        values, weights.T, scale, weight_scale, bias=bias, out_dtype=dtype, use_fast_accum=FAST_SUMS
    )
