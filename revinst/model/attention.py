"""Causal attention for packed rows: what the name of a backend means, decided once for training, scoring and writing.

| what runs | kernel |
| --- | --- |
| packed rows: training, scoring, prompts of our slots | `Backend.packed`: documents of one row never see each other |
| prompts that share a prefix, in our slots | `Backend.after_prefix`; without one each prompt is computed whole |
| one token of each row on a cache, in our slots | `inference/engine/cached`, whatever the backend |
| transformers' `generate` | transformers' SDPA with the mask that it built (`attention_forward`) |

All kernels are causal and scaled. A window, a soft cap or sinks, where a base has them, need a kernel that knows them
(`Backend.knows`), and heads of the base's size one that computes them (`attention_trial.py`); `auto` takes one, and
another is refused.

`register_attention` puts a backend under transformers' interface, so that any of its models runs packed rows. A call
that carries `cu_seqlens`, or has them for a mask, runs it on documents; one that does not (generation with a cache and
left padding) runs transformers' own SDPA, unless it is one of packed rows (`told_of_documents`): that is refused.

Shapes: T tokens of all documents, H query heads, K key/value heads (K divides H), D head size; n documents, and P
positions of the prefix that they share.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import cast

import torch
from torch import Tensor

from revinst.config.words import check_word
from revinst.errors import UserError
from revinst.model.attention_kernels import (
    Extra,
    Kernel,
    by_document,
    dense_eager,
    dense_sdpa,
    flash,
    flash_after_prefix,
    masked_eager,
    sdpa_after_prefix,
    varlen,
)
from revinst.model.attention_trial import why_not_size


@dataclass(frozen=True, slots=True)
class Backend:
    """packed: q [T, H, D], k and v [T, K, D], scale, cu_seqlens, seq_lens -> [T, H, D]. after_prefix: the same with
    k and v [T + n P, K, D], the prefix before each document; it takes a window. why_not: (device, dtype) -> why it
    can't run there, or "". knows: of `EXTRAS`, what `packed` takes by these names.
    """

    packed: Kernel
    after_prefix: Kernel | None
    why_not: Callable[[torch.device, torch.dtype], str]
    knows: frozenset[str]


@dataclass(frozen=True, slots=True)
class Needs:
    """Of a base's attention. extras: of `EXTRAS`. head_sizes: all that its heads have; empty: not known."""

    extras: frozenset[str] = frozenset()
    head_sizes: frozenset[int] = frozenset()


EXTRAS = {"window": "a sliding window", "soft_cap": "a soft cap on its scores", "sinks": "attention sinks"}
WINDOW = frozenset({"window"})
IN_TRANSFORMERS = {"window": "sliding_window", "soft_cap": "softcap", "sinks": "s_aux"}


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
    "flash": Backend(flash, flash_after_prefix, why_not_flash, WINDOW | {"soft_cap"}),
    "varlen": Backend(varlen, None, why_not_varlen, WINDOW),
    "sdpa": Backend(partial(by_document, dense=dense_sdpa), sdpa_after_prefix, lambda device, dtype: "", WINDOW),
    "eager": Backend(partial(by_document, dense=dense_eager), None, lambda device, dtype: "", frozenset(EXTRAS)),
}


def choose_attention(
    device: torch.device,
    asked: str,
    dtype: torch.dtype,
    *,
    deterministic: bool = False,
    needs: Needs = Needs(),
) -> tuple[str, str]:
    """(name of a backend, reason). asked: its name, or auto. deterministic: gradients must be the same bits each time.

    Raises UserError when the asked-for one can't run there, or computes heads of the base's size wrongly.
    """
    check_word("model.attention", asked, ("auto", *BACKENDS))
    if asked != "auto":
        if obstacle := why_not(asked, device, dtype, deterministic, needs):
            raise UserError(f"model.attention {asked}: {obstacle}; use model.attention: auto")
        return asked, "asked for"
    missing: list[str] = []
    for backend in ("flash", "varlen", "sdpa"):
        if not (obstacle := why_not(backend, device, dtype, deterministic, needs)):
            return backend, CHOSEN[backend] + (f" ({'; '.join(missing)})" if missing else "")
        missing.append(obstacle)
    return "eager", missing[-1]


CHOSEN = {
    "flash": "flash-attn is installed and the GPU runs it",
    "varlen": "PyTorch's variable-length attention",
    "sdpa": "one call a document",
}


def why_not(backend: str, device: torch.device, dtype: torch.dtype, deterministic: bool, needs: Needs) -> str:
    """Why a backend does not compute what is needed; empty if it does."""
    obstacle = BACKENDS[backend].why_not(device, dtype) or why_not_extras(backend, needs.extras)
    if not obstacle and deterministic and backend == "flash":
        obstacle = why_not_deterministic_flash()  # PyTorch's own obey `torch.use_deterministic_algorithms`
    sizes = () if obstacle or backend == "eager" else sorted(needs.head_sizes)
    kernel = BACKENDS[backend].packed
    wrong = (f"{backend} {why}" for size in sizes if (why := why_not_size(kernel, device, dtype, size, needs.extras)))
    return obstacle or next(wrong, "")


def why_not_extras(backend: str, needs: frozenset[str]) -> str:
    """Why a base whose attention has these of `EXTRAS` is not computed with a backend; empty if it is."""
    unknown = [what for name, what in EXTRAS.items() if name in needs - BACKENDS[backend].knows]
    return f"the base has {' and '.join(unknown)}, which {backend} does not compute" if unknown else ""


def why_not_deterministic_flash() -> str:
    """Older ones have one backward, which adds in any order."""
    from flash_attn import flash_attn_varlen_func

    if "deterministic" in inspect.signature(flash_attn_varlen_func).parameters:
        return ""
    return "the installed flash-attn has no deterministic backward, and trainer.deterministic asks for one"


def choose_kernel(
    backend: str, asked: str, device: torch.device, dtype: torch.dtype, head_sizes: frozenset[int]
) -> Kernel:
    """For fused layers. asked: as in a config; `auto` takes the fastest for each micro-batch."""
    kernel = BACKENDS[backend].packed
    if asked != "auto" or why_not("sdpa", device, dtype, False, Needs(head_sizes=head_sizes)):
        return kernel
    return rows_by_sdpa(kernel)


def rows_by_sdpa(kernel: Kernel) -> Kernel:
    """SDPA for documents of one length (full rows), the given kernel for others.

    On Hopper SDPA is cuDNN's: 1.9 ms forward and backward for 6 rows of 2,048 where flash-attn 2 takes 2.9 ms.
    """

    def choose(
        q: Tensor, k: Tensor, v: Tensor, scale: float, cu_seqlens: Tensor, seq_lens: list[int], **extras: Extra
    ) -> Tensor:
        same = len(set(seq_lens)) == 1 and not extras  # with a window it would compute whole matrices
        return (BACKENDS["sdpa"].packed if same else kernel)(q, k, v, scale, cu_seqlens, seq_lens, **extras)

    return choose


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
