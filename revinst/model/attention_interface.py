"""Our attention under transformers' interface, so that any of its models runs packed rows.

A call that carries `cu_seqlens` (training, scoring) runs the backend on documents; one that does not (generation with a
cache and left padding) runs transformers' own SDPA with the mask it built, so no mode has to be switched.

Shapes: as in `attention.py`.
"""

from functools import partial

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from revinst.model.attention import BACKENDS, Kernel, check_mask


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
    return None if kwargs.get("attention_mask") is None else sdpa_mask(**kwargs)


def register_attention(backend: str) -> str:
    """Registers a backend with transformers; returns the name for `attn_implementation`."""
    # transformers takes any name with "flash" in it for one of its own kernels and tries to fetch that one
    name = f"revinst_{backend.replace('flash', 'fa')}"
    AttentionInterface.register(name, partial(attention_forward, kernel=BACKENDS[backend].packed))
    AttentionMaskInterface.register(name, padding_mask)
    return name
