# ruff: noqa: PLR0917  (a kernel takes its pointers and sizes by position)
"""The frozen base's weights, unpacked by Triton: NF4 to 16 bits or e4m3, and 16 bits to e4m3, as in `reference`."""

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from revinst.model.fused import reference

if TYPE_CHECKING:
    from bitsandbytes.functional import QuantState


@triton.jit
def nf4_values(byte, inside, packed, levels, absmax, absmax_levels, absmax_scale, absmax_offset):
    """bitsandbytes' NF4 with double quantisation, in its order of operations: the same bits in fp32.

    A byte holds two values, high nibble first; 64 values share an 8-bit scale and 256 scales an fp32 one.
    """
    pair = tl.load(packed + byte, mask=inside, other=0).to(tl.int32)
    block = byte // 32
    level = tl.load(absmax_levels + tl.load(absmax + block, mask=inside, other=0).to(tl.int32))
    scale = level * tl.load(absmax_scale + block // 256, mask=inside, other=0.0) + tl.load(absmax_offset)
    return tl.interleave(tl.load(levels + (pair >> 4)) * scale, tl.load(levels + (pair & 15)) * scale)


@triton.jit
def nf4_kernel(
    packed, levels, absmax, absmax_levels, absmax_scale, absmax_offset, out, count, columns, out_stride,
    BLOCK: tl.constexpr,
):  # fmt: skip
    byte = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    values = nf4_values(byte, byte < count, packed, levels, absmax, absmax_levels, absmax_scale, absmax_offset)
    index = tl.program_id(0).to(tl.int64) * (2 * BLOCK) + tl.arange(0, 2 * BLOCK)
    row = index // columns
    target = out + row * out_stride + (index - row * columns)
    tl.store(target, values.to(out.dtype.element_ty), mask=index < 2 * count)


@triton.jit
def store_fp8(values, out, row, column, rows, columns, out_stride, scale, TRANSPOSE: tl.constexpr):
    """values [rows of the tile, columns of it], divided by scale[0], into a matrix or the transpose of one."""
    inside = (row < rows) & (column < columns)
    values = values * (1.0 / tl.load(scale))
    if TRANSPOSE:
        target = out + tl.trans(column) * out_stride + tl.trans(row)
        tl.store(target, tl.trans(values).to(out.dtype.element_ty), mask=tl.trans(inside))
    else:
        tl.store(out + row * out_stride + column, values.to(out.dtype.element_ty), mask=inside)


@triton.jit
def nf4_to_fp8_kernel(
    packed, levels, absmax, absmax_levels, absmax_scale, absmax_offset, scale, out, rows, columns, out_stride,
    TRANSPOSE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    half = tl.program_id(1).to(tl.int64) * (COLUMNS // 2) + tl.arange(0, COLUMNS // 2)[None, :]
    column = tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    byte, inside = row * (columns // 2) + half, (row < rows) & (half < columns // 2)
    values = nf4_values(byte, inside, packed, levels, absmax, absmax_levels, absmax_scale, absmax_offset)
    store_fp8(values, out, row, column, rows, columns, out_stride, scale, TRANSPOSE)


@triton.jit
def dense_to_fp8_kernel(
    weight, scale, out, rows, columns, weight_stride, out_stride,
    TRANSPOSE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    values = tl.load(weight + row * weight_stride + column, mask=(row < rows) & (column < columns), other=0.0)
    store_fp8(values.to(tl.float32), out, row, column, rows, columns, out_stride, scale, TRANSPOSE)


def fill_base(base: torch.nn.Linear, out: Tensor) -> None:
    weight = base.weight
    state = double_nf4(base)
    if state is None or state.dtype != out.dtype or weight.numel() * 2 != out.numel():
        return reference.fill_base(base, out)
    count, block = weight.numel(), 1024
    nf4_kernel[(triton.cdiv(count, block),)](
        *nf4_arguments(weight, state), out, count, out.shape[1], out.stride(0), BLOCK=block, num_warps=4,
        enable_fp_fusion=False,
    )  # fmt: skip


def double_nf4(base: torch.nn.Linear) -> "QuantState | None":
    """The statistics of bitsandbytes' NF4 with double quantisation in its usual block sizes; else None."""
    state = getattr(base.weight, "quant_state", None) or getattr(base, "quant_state", None)  # sharding moves it
    if state is None or not state.nested:
        return None
    return state if (state.quant_type, state.blocksize, state.state2.blocksize) == ("nf4", 64, 256) else None


def nf4_arguments(weight: Tensor, state: "QuantState") -> tuple[Tensor, ...]:
    statistics = (state.absmax, state.state2.code, state.state2.absmax, state.offset)
    return weight.data, state.code, *statistics


def fill_base_fp8(base: torch.nn.Linear, scale: Tensor, out: Tensor, transpose: bool) -> None:
    weight, state = base.weight, double_nf4(base)
    rows, columns = out.shape[::-1] if transpose else out.shape
    tile = {"ROWS": 128 if transpose else 64, "COLUMNS": 64 if transpose else 128, "num_warps": 4}  # whole lines of out
    grid = triton.cdiv(rows, tile["ROWS"]), triton.cdiv(columns, tile["COLUMNS"])
    if state is not None and weight.numel() * 2 == out.numel():
        nf4_to_fp8_kernel[grid](
            *nf4_arguments(weight, state), scale, out, rows, columns, out.stride(0), TRANSPOSE=transpose,
            enable_fp_fusion=False, **tile,
        )  # fmt: skip
    elif weight.shape == (rows, columns) and weight.stride(1) == 1:
        dense_to_fp8_kernel[grid](
            weight, scale, out, rows, columns, weight.stride(0), out.stride(0), TRANSPOSE=transpose, **tile
        )
    else:
        reference.fill_base_fp8(base, scale, out, transpose)
