"""Whether a kernel computes heads of a size: tried on the device, against the textbook.

A package may be built for some sizes of heads alone. Asked for another size it may say so, or return whatever its
memory held: flash-attn whose kernels for 256 were left out does (one H200, 2.8.3), and losses are numbers or not by
chance. The proof of a base (`proof.py`) can't see it, its tiny copy has small heads.
"""

from functools import cache
from itertools import product

import torch
from torch import Tensor

from revinst.model.attention_kernels import Extra, Kernel, by_document, dense_eager

# Tokens of the documents: beyond the 128 of a block; then alike, which some kernels take as rows of a batch.
DOCUMENTS = ([5, 140], [140, 140])
TRIED: dict[str, Extra] = {"window": 9, "soft_cap": 2.0}
# Relative. fp32 may be TF32. Gradients of 16 bits lose as much as the product that they are sums of.
BOUND = {torch.float32: 1e-2, torch.bfloat16: 5e-2, torch.float16: 2e-2}


@cache
def why_not_size(
    kernel: Kernel, device: torch.device, dtype: torch.dtype, size: int, extras: frozenset[str] = frozenset()
) -> str:
    """Why a kernel does not compute heads of `size` features, forward or backward; empty if it does. Some ms, once.

    extras: of `attention.EXTRAS`, what it will be asked for besides; it is tried with each, and without.
    """
    each: list[dict[str, Extra]] = [{}, *({name: TRIED[name]} for name in sorted(extras & TRIED.keys()))]
    for lengths, given in product(DOCUMENTS, each):
        try:
            found = attend(kernel, device, dtype, size, lengths, given)
        except Exception as error:  # of a package that is not ours: any error
            return f"fails on heads of {size} ({' '.join(str(error).split())[:120]})"
        expected = attend(textbook, device, torch.float32, size, lengths, given)
        for what, ours, theirs in zip(("", "gradients of "), found, expected, strict=True):
            if not (ours - theirs).norm() < BOUND[dtype] * theirs.norm():  # a nan is not
                return f"computes {what}heads of {size} wrongly here"
    return ""


def attend(
    kernel: Kernel, device: torch.device, dtype: torch.dtype, size: int, lengths: list[int], extras: dict[str, Extra]
) -> tuple[Tensor, Tensor]:
    """(output, gradients of q, k and v end to end), fp32, of two heads that share one of keys."""
    generator = torch.Generator().manual_seed(0)
    # Also where nothing else is differentiated: a kernel is chosen while a page writes.
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        drawn = [torch.randn(sum(lengths), heads, size, generator=generator, device="cpu") for heads in (2, 1, 1)]
        ends = torch.tensor([0, *lengths], device="cpu").cumsum(0).int().to(device)
        inputs = [x.to(device, dtype).requires_grad_() for x in drawn]
        out = kernel(*inputs, size**-0.5, ends, lengths, **extras).float()
        gradients = torch.autograd.grad(out.square().sum(), inputs)
    return out.detach(), torch.cat([gradient.float().flatten() for gradient in gradients])


def textbook(
    q: Tensor, k: Tensor, v: Tensor, scale: float, ends: Tensor, lengths: list[int], **extras: Extra
) -> Tensor:
    return by_document(q, k, v, scale, ends, lengths, dense=dense_eager, **extras)
