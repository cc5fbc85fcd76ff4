"""Causal attention for packed rows: what the name of a backend means, decided once for training, scoring and writing.

| what runs | kernel |
| --- | --- |
| packed rows: training, scoring, prompts of our slots | `Backend.packed`: documents of one row never see each other |
| prompts that share a prefix, in our slots | `Backend.after_prefix`; without one each prompt is computed whole |
| one token of each row on a cache, in our slots | `inference/engine/cached`, whatever the backend |
| transformers' `generate` | transformers' SDPA with the mask that it built (`attention_forward`) |

All kernels are causal, scaled, and nothing else: a window, a soft cap or sinks are refused (`check_mask`).

`register_attention` puts a backend under transformers' interface, so that any of its models runs packed rows. A call
that carries `cu_seqlens` runs it on documents; one that does not (generation with a cache and left padding) runs
transformers' own SDPA, so no mode has to be switched.

Shapes: T tokens of all documents, H query heads, K key/value heads (K divides H), D head size; n documents, and P
positions of the prefix that they share.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

from revinst.config.words import check_word
from revinst.errors import UserError
from revinst.model.attention_kernels import (
    Kernel,
    by_document,
    dense_eager,
    dense_sdpa,
    flash,
    flash_after_prefix,
    sdpa_after_prefix,
    varlen,
)


@dataclass(frozen=True, slots=True)
class Backend:
    """packed: q [T, H, D], k and v [T, K, D], scale, cu_seqlens, seq_lens -> [T, H, D]. after_prefix: the same with
    k and v [T + n P, K, D], the prefix before each document. why_not: (device, dtype) -> why it can't run there, or "".
    """

    packed: Kernel
    after_prefix: Kernel | None
    why_not: Callable[[torch.device, torch.dtype], str]


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
    check_word("model.attention", asked, ("auto", *BACKENDS))
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


def attention_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    kernel: Kernel,
    scaling: float | None = None,
    cu_seqlens: Tensor | None = None,
    seq_lens: list[int] | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """query [1, H, T, D], key and value [1, K, T, D] -> [1, T, H, D]."""
    if cu_seqlens is None or seq_lens is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    check_mask(
        max(seq_lens),
        window=kwargs.get("sliding_window"),
        soft_cap=kwargs.get("softcap"),
        has_sinks=kwargs.get("s_aux") is not None,
        is_causal=getattr(module, "is_causal", True),
    )
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [T, heads, D]
    if v.dtype != q.dtype or k.dtype != q.dtype:  # under autocast RoPE leaves q and k in fp32, v in bf16
        q, k = q.to(v.dtype), k.to(v.dtype)
    return kernel(q, k, v, scale, cu_seqlens, seq_lens)[None], None


def padding_mask(**kwargs) -> Tensor | None:
    """transformers' mask interface: packed rows come without a 2D mask and need none; left padding needs SDPA's."""
    from transformers.masking_utils import sdpa_mask

    return None if kwargs.get("attention_mask") is None else sdpa_mask(**kwargs)


def register_attention(backend: str) -> str:
    """Registers a backend with transformers; returns the name for `attn_implementation`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    # transformers takes any name with "flash" in it for one of its own kernels and tries to fetch that one
    name = f"revinst_{backend.replace('flash', 'fa')}"
    AttentionInterface.register(name, partial(attention_forward, kernel=BACKENDS[backend].packed))
    AttentionMaskInterface.register(name, padding_mask)
    return name
