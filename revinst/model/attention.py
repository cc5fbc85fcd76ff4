"""Causal attention for packed rows: what the name of a backend means, decided once for training, scoring and writing.

| what runs | kernel |
| --- | --- |
| packed rows: training, scoring, prompts of our slots | `Backend.packed`: documents of one row never see each other |
| prompts that share a prefix, in our slots | `Backend.after_prefix`; without one each prompt is computed whole |
| one token of each row on a cache, in our slots | `inference/engine/cached`, whatever the backend |
| transformers' `generate` | transformers' SDPA with the mask that it built (`attention_interface.py`) |

All kernels are causal, scaled, and nothing else: a window, a soft cap or sinks are refused (`check_mask`).

Shapes: T tokens of all documents, H query heads, K key/value heads (K divides H), D head size; n documents, and P
positions of the prefix that they share.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from revinst.errors import UserError

Kernel = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class Backend:
    """packed: q [T, H, D], k and v [T, K, D], scale, cu_seqlens, seq_lens -> [T, H, D]. after_prefix: the same with
    k and v [T + n P, K, D], the prefix before each document. why_not: (device, dtype) -> why it can't run there, or "".
    """

    packed: Kernel
    after_prefix: Kernel | None
    why_not: Callable[[torch.device, torch.dtype], str]


def flash(q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, seq_lens: list[int]) -> Tensor:
    """flash-attn's variable-length kernel. q [T, H, D]; k, v [T, K, D] -> [T, H, D].

    Its backward adds into the gradient of q in the order in which blocks finish, unless it is asked for one order.
    """
    from flash_attn import flash_attn_varlen_func

    longest, options = max(seq_lens), {"softmax_scale": scale, "causal": True}
    if is_deterministic():  # older ones have no such argument
        options["deterministic"] = True
    return flash_attn_varlen_func(q, k, v, cu_seqlens, cu_seqlens, longest, longest, **options)


def flash_after_prefix(q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, lengths: list[int]) -> Tensor:
    """flash-attn aligns the ends of queries and keys, so that each query sees the prefix and what is before it."""
    from flash_attn import flash_attn_varlen_func

    prefix = (len(k) - len(q)) // len(lengths)
    cu_keys = cu_seqlens + prefix * torch.arange(len(cu_seqlens), dtype=torch.int32, device=q.device)
    longest = max(lengths)
    return flash_attn_varlen_func(
        q, k, v, cu_seqlens, cu_keys, longest, longest + prefix, softmax_scale=scale, causal=True
    )


def varlen(q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, seq_lens: list[int]) -> Tensor:
    """PyTorch's variable-length kernel; it wants as many key heads as query heads.

    It asks itself whether its backward must be deterministic (ATen's `_flash_attention_backward`).
    """
    from torch.nn.attention.varlen import varlen_attn

    longest, groups = max(seq_lens), q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    out = varlen_attn(q, k, v, cu_seqlens, cu_seqlens, longest, longest, scale=scale, window_size=(-1, 0))
    assert isinstance(out, Tensor)
    return out


def by_document(
    q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, seq_lens: list[int], *, dense: Kernel
) -> Tensor:
    """A dense kernel on each document, or on all at once where they are equally long (full rows)."""
    if len(set(seq_lens)) == 1:
        rows = (len(seq_lens), seq_lens[0])
        return dense(q.unflatten(0, rows), k.unflatten(0, rows), v.unflatten(0, rows), scale).flatten(0, 1)
    split = zip(q.split(seq_lens), k.split(seq_lens), v.split(seq_lens), strict=True)
    return torch.cat([dense(qd[None], kd[None], vd[None], scale)[0] for qd, kd, vd in split])


def dense_sdpa(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """q [B, S, H, D]; k, v [B, S, K, D] -> [B, S, H, D]."""
    groups = q.shape[2] // k.shape[2]
    if groups > 1 and not reads_shared_heads(q.device):
        k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2)


def reads_shared_heads(device: torch.device) -> bool:
    """Whether SDPA has a kernel for fewer key heads than query heads; before Ampere it would compute whole matrices."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def sdpa_after_prefix(q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, lengths: list[int]) -> Tensor:
    """A call a document."""
    prefix = (len(k) - len(q)) // len(lengths)
    mask = torch.ones(max(lengths), max(lengths) + prefix, dtype=torch.bool, device=q.device).tril(prefix)
    longer = [length + prefix for length in lengths]
    outputs = []
    for q_part, k_part, v_part in zip(q.split(lengths), k.split(longer), v.split(longer), strict=True):
        queries, keys, values = (part.transpose(0, 1)[None] for part in (q_part, k_part, v_part))
        visible = mask[: len(q_part), : len(k_part)]
        out = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=visible, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        outputs.append(out[0].transpose(0, 1))
    return torch.cat(outputs)


def dense_eager(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The textbook: softmax over a causal score matrix, in fp32. The reference for the others."""
    groups = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * scale  # [B, H, S, S]
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    weights = scores.masked_fill(future, float("-inf")).softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v)


def why_not_flash(device: torch.device, dtype: torch.dtype) -> str:
    if device.type != "cuda":
        return "flash-attn needs a CUDA GPU"
    if dtype == torch.float32:
        return "flash-attn computes in 16 bits, not in fp32"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "flash-attn needs compute capability 8.0"
    return "" if find_spec("flash_attn") else "flash-attn is not installed"


def why_not_varlen(device: torch.device, dtype: torch.dtype) -> str:
    if device.type != "cuda":
        return "PyTorch's varlen attention needs a CUDA GPU"
    if dtype == torch.float32:
        return "PyTorch's varlen attention computes in 16 bits, not in fp32"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "PyTorch's varlen attention needs compute capability 8.0"
    return "" if find_spec("torch.nn.attention.varlen") else "this PyTorch has no varlen attention"


BACKENDS = {
    "flash": Backend(flash, flash_after_prefix, why_not_flash),
    "varlen": Backend(varlen, None, why_not_varlen),
    "sdpa": Backend(partial(by_document, dense=dense_sdpa), sdpa_after_prefix, lambda device, dtype: ""),
    "eager": Backend(partial(by_document, dense=dense_eager), None, lambda device, dtype: ""),
}


def choose_attention(
    device: torch.device, asked: str, dtype: torch.dtype, *, deterministic: bool = False
) -> tuple[str, str]:
    """(name of a backend, reason). asked: its name, or auto. deterministic: gradients must be the same bits each time.

    Raises UserError when the asked-for one can't run there.
    """
    if asked not in ("auto", *BACKENDS):
        raise UserError(f"model.attention {asked!r}: choose from {', '.join(('auto', *BACKENDS))}")
    missing = {name: backend.why_not(device, dtype) for name, backend in BACKENDS.items()}
    if deterministic:  # PyTorch's own obey `torch.use_deterministic_algorithms`, which the Trainer calls
        missing["flash"] = missing["flash"] or why_not_deterministic_flash()
    if asked != "auto":
        if missing[asked]:
            raise UserError(f"model.attention {asked}: {missing[asked]}; use model.attention: auto")
        return asked, "asked for"
    if not missing["flash"]:
        return "flash", "flash-attn is installed and the GPU runs it"
    if not missing["varlen"]:
        return "varlen", f"PyTorch's variable-length attention ({missing['flash']})"
    return "sdpa", f"one call a document ({missing['flash']}; {missing['varlen']})"


def is_deterministic() -> bool:
    """Whether gradients must be the same bits each time: the Trainer's `deterministic: true`.

    Its `warn` promises nothing: PyTorch's own attention adds in any order then.
    """
    return torch.get_deterministic_debug_mode() == 2


def why_not_deterministic_flash() -> str:
    """Older ones have one backward, which adds in any order."""
    from flash_attn import flash_attn_varlen_func

    if "deterministic" in inspect.signature(flash_attn_varlen_func).parameters:
        return ""
    return "the installed flash-attn has no deterministic backward, and trainer.deterministic asks for one"


def choose_kernel(backend: str, asked: str) -> Kernel:
    """For fused layers. asked: as in a config; `auto` takes the fastest for each micro-batch."""
    kernel = BACKENDS[backend].packed
    return rows_by_sdpa(kernel) if asked == "auto" else kernel


def rows_by_sdpa(kernel: Kernel) -> Kernel:
    """SDPA for documents of one length (full rows), the given kernel for others.

    On Hopper SDPA is cuDNN's: 1.9 ms forward and backward for 6 rows of 2,048 where flash-attn 2 takes 2.9 ms.
    """

    def choose(q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, seq_lens: list[int]) -> Tensor:
        same = len(set(seq_lens)) == 1
        return (BACKENDS["sdpa"].packed if same else kernel)(q, k, v, scale, cu_seqlens, seq_lens)

    return choose


def check_mask(longest: int, *, window: int | None, soft_cap: float | None, has_sinks: bool, is_causal: bool) -> None:
    """Refuses what a base's attention has and the kernels here do not know; each of them changes every number.

    longest: tokens of a document; a window that holds them all masks nothing.
    """
    unknown = {
        f"a sliding window of {window} tokens, and a document has {longest}": window is not None and window < longest,
        f"a soft cap of {soft_cap} on its scores": soft_cap is not None,
        "attention sinks": has_sinks,
        "attention to later tokens": not is_causal,
    }
    if found := [what for what, is_there in unknown.items() if is_there]:
        advice = f"; with data.seq_len: {window} the window masks nothing" if next(iter(unknown)) in found else ""
        raise UserError(f"model.base: it has {' and '.join(found)}, which packed rows are not computed with{advice}")
