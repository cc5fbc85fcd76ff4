# ruff: noqa: PLR0917  (a kernel takes its pointers and sizes by position)
"""The functions of `plain` as Triton kernels: same names, arguments and results.

One query a sequence makes attention a matter of reading the cache once: no tile of a matrix product is filled, so
scores are plain sums of products. flash-attn's kernel for a cache computes 64 queries where there is one.
"""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from revinst.inference.engine.cached.plain import Extras

LOG2_E = 1.4426950408889634
HEADS = 16  # of one program that writes
POSITIONS, WARPS = 32, 1  # fastest of 16 pairs at 1,024 sequences on an H200: 4.3 TB/s


@triton.jit
def write_kernel(
    q, k, v, cos, sin, slots, places, keys, values, heads, key_heads,
    q_stride, k_stride, v_stride, slot_stride, head_stride,
    HALF: tl.constexpr, HEADS: tl.constexpr, HALF_BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    column = tl.arange(0, HALF_BLOCK)[None, :]
    place = tl.load(places + row)
    angle = place * 2 * HALF + column
    c = tl.load(cos + angle, mask=column < HALF, other=0.0).to(tl.float32)
    s = tl.load(sin + angle, mask=column < HALF, other=0.0).to(tl.float32)
    query_blocks = tl.cdiv(heads, HEADS)
    if block < query_blocks:
        head = block * HEADS + tl.arange(0, HEADS)[:, None]
        inside = (head < heads) & (column < HALF)
        here = q + row * q_stride + head * 2 * HALF + column
        first = tl.load(here, mask=inside, other=0.0).to(tl.float32)
        second = tl.load(here + HALF, mask=inside, other=0.0).to(tl.float32)
        tl.store(here, (first * c - second * s).to(q.dtype.element_ty), mask=inside)
        tl.store(here + HALF, (second * c + first * s).to(q.dtype.element_ty), mask=inside)
    else:
        head = (block - query_blocks) * HEADS + tl.arange(0, HEADS)[:, None]
        inside = (head < key_heads) & (column < HALF)
        there = tl.load(slots + row) * slot_stride + head * head_stride + place * 2 * HALF + column
        source = v + row * v_stride + head * 2 * HALF + column
        tl.store(values + there, tl.load(source, mask=inside, other=0.0), mask=inside)
        tl.store(values + there + HALF, tl.load(source + HALF, mask=inside, other=0.0), mask=inside)
        here = k + row * k_stride + head * 2 * HALF + column
        first = tl.load(here, mask=inside, other=0.0).to(tl.float32)
        second = tl.load(here + HALF, mask=inside, other=0.0).to(tl.float32)
        left = (first * c - second * s).to(k.dtype.element_ty)
        right = (second * c + first * s).to(k.dtype.element_ty)
        tl.store(here, left, mask=inside)
        tl.store(here + HALF, right, mask=inside)
        tl.store(keys + there, left, mask=inside)
        tl.store(keys + there + HALF, right, mask=inside)


@triton.jit
def attend_kernel(
    q, keys, values, lengths, out, scale, window, soft_cap, q_stride, out_stride, slot_stride, head_stride,
    CAPPED: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """scale, soft_cap: of the scores, times log2 e. One program a head of a sequence, heads of one key side by side."""
    head, slot = tl.program_id(0), tl.program_id(1).to(tl.int64)
    column, within = tl.arange(0, SIZE_BLOCK), tl.arange(0, POSITIONS)
    length = tl.load(lengths + slot).to(tl.int32) + 1
    query = tl.load(q + slot * q_stride + head * SIZE + column, mask=column < SIZE, other=0.0).to(tl.float32) * scale
    start_of_slot = slot * slot_stride + (head // GROUP) * head_stride
    keys += start_of_slot
    values += start_of_slot
    highest, total = float("-inf"), 0.0
    sums = tl.zeros([SIZE_BLOCK], tl.float32)
    for start in range(tl.maximum(length - window, 0), length, POSITIONS):
        position = start + within
        inside = (position < length)[:, None] & (column < SIZE)[None, :]
        there = position[:, None] * SIZE + column[None, :]
        k = tl.load(keys + there, mask=inside, other=0.0).to(tl.float32)
        v = tl.load(values + there, mask=inside, other=0.0).to(tl.float32)
        scores = tl.sum(k * query[None, :], 1)  # [POSITIONS]
        if CAPPED:
            scores = soft_cap * (2 * tl.sigmoid(2 * scores / soft_cap) - 1)  # tanh
        scores = tl.where(position < length, scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 0))
        weights, rescale = tl.exp2(scores - higher), tl.exp2(highest - higher)
        sums = sums * rescale + tl.sum(v * weights[:, None], 0)
        total = total * rescale + tl.sum(weights, 0)
        highest = higher
    tl.store(out + slot * out_stride + head * SIZE + column, (sums / total).to(out.dtype.element_ty), column < SIZE)


# ---- the same functions as in `plain` ------------------------------------------------------------------------------


def rotate_and_write(
    parts: Sequence[Tensor], angles: tuple[Tensor, Tensor], cache: Tensor, slots: Tensor, places: Tensor
) -> None:
    (q, k, v), (cos, sin) = parts, angles
    tokens, heads, size = q.shape
    assert all(part.stride()[1:] == (size, 1) for part in parts) and cos.is_contiguous() and sin.is_contiguous()
    blocks = triton.cdiv(heads, HEADS) + triton.cdiv(k.shape[1], HEADS)
    write_kernel[(tokens, blocks)](
        q, k, v, cos, sin, slots, places, cache[0], cache[1], heads, k.shape[1],
        q.stride(0), k.stride(0), v.stride(0), cache.stride(1), cache.stride(2),
        HALF=size // 2, HEADS=HEADS, HALF_BLOCK=triton.next_power_of_2(size // 2), num_warps=4,
    )  # fmt: skip


def attend(q: Tensor, cache: Tensor, lengths: Tensor, longest: int, scale: float, extras: Extras) -> Tensor:
    window, soft_cap = extras
    sequences, heads, size = q.shape
    assert q.stride()[1:] == (size, 1) and cache.stride()[3:] == (size, 1)
    out = q.new_empty(q.shape)
    attend_kernel[(heads, sequences)](
        q, cache[0], cache[1], lengths, out, scale * LOG2_E, window, (soft_cap or 0.0) * LOG2_E, q.stride(0),
        out.stride(0), cache.stride(1), cache.stride(2), CAPPED=soft_cap is not None, GROUP=heads // cache.shape[2],
        SIZE=size, SIZE_BLOCK=triton.next_power_of_2(size), POSITIONS=POSITIONS, num_warps=WARPS,
    )  # fmt: skip
    return out
