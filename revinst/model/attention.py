"""Causal attention for packed rows: what the name of a backend means, decided once for training, scoring and writing.

| what runs | kernel |
| --- | --- |
| packed rows: training, scoring, prompts of our slots | `Backend.packed`: documents of one row never see each other |
| prompts that share a prefix, in our slots | `Backend.after_prefix`; without one each prompt is computed whole |
| one token of each row on a cache, in our slots | `inference/engine/cached`, whatever the backend |
| transformers' `generate` | transformers' SDPA with the mask that it built (`attention_interface.py`) |

All kernels are causal and scaled. A window, a soft cap or sinks, where a base has them, need a kernel that knows them
(`Backend.knows`), and heads of the base's size one that computes them (`attention_trial.py`); `auto` takes one, and
another is refused.

Any model of transformers runs a backend by its name there: `attention_interface.py`.

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
    Extra,
    Kernel,
    by_document,
    dense_eager,
    dense_sdpa,
    flash,
    flash_after_prefix,
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


def why_not_on_gpu(name: str, device: torch.device, dtype: torch.dtype) -> str:
    if device.type != "cuda":
        return f"{name} needs a CUDA GPU"
    if dtype == torch.float32:
        return f"{name} computes in 16 bits, not in fp32"
    return "" if torch.cuda.get_device_capability(device) >= (8, 0) else f"{name} needs compute capability 8.0"


def why_not_flash(device: torch.device, dtype: torch.dtype) -> str:
    installed = find_spec("flash_attn") is not None
    return why_not_on_gpu("flash-attn", device, dtype) or ("" if installed else "flash-attn is not installed")


def why_not_varlen(device: torch.device, dtype: torch.dtype) -> str:
    there = find_spec("torch.nn.attention.varlen") is not None
    obstacle = why_not_on_gpu("PyTorch's varlen attention", device, dtype)
    return obstacle or ("" if there else "this PyTorch has no varlen attention")


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
