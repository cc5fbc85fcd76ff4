"""Backends under transformers' attention interface, so that any of its models runs packed rows.

A call that carries `cu_seqlens`, or has them for a mask, runs a backend on documents. One that does not (generation
with a cache and left padding) runs transformers' own SDPA. One of packed rows that has neither (`told_of_documents`) is
refused.

Shapes: T tokens of all documents, H query heads, K key/value heads (K divides H), D head size.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import cast

import torch
from torch import Tensor

from revinst.errors import UserError
from revinst.model.attention import BACKENDS, why_not_extras
from revinst.model.attention_kernels import Extra, Kernel, masked_eager

IN_TRANSFORMERS = {"window": "sliding_window", "soft_cap": "softcap", "sinks": "s_aux"}  # names of `EXTRAS`


def read_extras(
    module: torch.nn.Module, asked: Mapping[str, object], backend: str, longest: int | None = None
) -> dict[str, Extra]:
    """What a base's attention has beside the causal mask; each changes every number. asked: by transformers' names.

    longest: tokens of a document; a window that holds them all masks nothing. Raises UserError for what the backend
    does not compute.
    """
    found = {name: cast(Extra, value) for name, key in IN_TRANSFORMERS.items() if (value := asked.get(key)) is not None}
    if longest is not None and "window" in found and cast(int, found["window"]) >= longest:
        del found["window"]
    if not getattr(module, "is_causal", True):
        raise UserError("model.base: it has attention to later tokens, which packed rows are not computed with")
    if longest is not None and (obstacle := why_not_extras(backend, frozenset(found))):
        raise UserError(f"model.attention {backend}: {obstacle}; use model.attention: auto")
    return found


HAS_PACKED_ROWS = ContextVar("packed rows are computed", default=False)


@contextmanager
def told_of_documents() -> Iterator[None]:
    """Every attention in it must be told where documents end: a base that does not hand that on is refused."""
    before = HAS_PACKED_ROWS.set(True)
    try:
        yield
    finally:
        HAS_PACKED_ROWS.reset(before)


def attention_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    backend: str,
    scaling: float | None = None,
    kernel: Kernel,
    cu_seqlens: Tensor | None = None,
    seq_lens: list[int] | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """query [1, H, T, D], key and value [1, K, T, D] -> [1, T, H, D]. Raises UserError for packed rows of a base that
    hands on neither `cu_seqlens` nor the mask.
    """
    if cu_seqlens is None or seq_lens is None:
        if not names_documents(attention_mask):
            if HAS_PACKED_ROWS.get():
                raise UserError("model.base: its attention is not told where documents end, and they would be one text")
            return unpacked_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        # A base that hands on the mask alone, which is `cu_seqlens`; each of its layers waits for the device.
        cu_seqlens = cast(Tensor, attention_mask)[0, 0, 0]
        seq_lens = cu_seqlens.diff().tolist()
    extras = read_extras(module, kwargs, backend, max(seq_lens))
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [T, heads, D]
    if v.dtype != q.dtype or k.dtype != q.dtype:  # under autocast RoPE leaves q and k in fp32, v in bf16
        q, k = q.to(v.dtype), k.to(v.dtype)
    return kernel(q, k, v, scale, cu_seqlens, seq_lens, **extras)[None].contiguous(), None  # some bases take a view


def names_documents(attention_mask: Tensor | None) -> bool:
    """Whether a mask is the one that `Network.hidden` gives: `cu_seqlens`, of four dimensions."""
    return attention_mask is not None and attention_mask.dtype == torch.int32


def unpacked_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None,
    **kwargs,
) -> tuple[Tensor, None]:
    """transformers' SDPA with the mask that it built, windows and all; the textbook where SDPA can't do what a base
    asks for. query [B, H, S, D], key and value [B, K, N, D] -> [B, S, H, D].
    """
    if kwargs.get("softcap") is None and kwargs.get("s_aux") is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    ahead = k.shape[1] - q.shape[1]  # positions of the cache
    hidden = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device).triu(1 + ahead)
    if attention_mask is not None:
        hidden = ~attention_mask
        hidden = hidden & ~hidden.all(-1, keepdim=True)  # a row of padding sees all: no softmax of nothing
    extras = {name: value for name, value in read_extras(module, kwargs, "eager").items() if name != "window"}
    scale = scaling if scaling is not None else q.shape[-1] ** -0.5
    return masked_eager(q, k, v, scale, hidden, **extras), None  # type: ignore[arg-type]


def register_attention(backend: str) -> str:
    """Registers a backend with transformers; returns the name for `attn_implementation`."""
    # transformers takes any name with "flash" in it for one of its own kernels and tries to fetch that one, and one
    # with "sdpa" for its own too, which it refuses for bases with a soft cap or sinks
    name = f"revinst_{backend.replace('flash', 'fa').replace('sdpa', 'by_document')}"
    return register(name, partial(attention_forward, backend=backend, kernel=BACKENDS[backend].packed))


def register_recorder(backend: str, dtype: torch.dtype, needs: set[str]) -> str:
    """The same, in `dtype` whatever the model's, and adds to `needs` what of `EXTRAS` it is asked for."""

    def record(q: Tensor, k: Tensor, v: Tensor, *others: object, **extras: Extra) -> Tensor:
        needs.update(extras)
        parts = (x.to(dtype) for x in (q, k, v))
        return BACKENDS[backend].packed(*parts, *others, **extras).to(q.dtype)

    return register("revinst_recorder", partial(attention_forward, backend=backend, kernel=record))


def register(name: str, forward: Callable[..., tuple[Tensor, None]]) -> str:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(name, forward)
    AttentionMaskInterface.register(name, sdpa_mask)
    return name
