"""Device, precision, attention backend and 4-bit support: each decided once, with a reason to print."""

import inspect
from dataclasses import asdict, dataclass
from importlib.util import find_spec

import torch

from revinst.errors import UserError

PRECISIONS = ("bf16-mixed", "32-true")
ROUNDED = "it would round the adapter's updates away"
PRECISION_REASONS = {
    "16-mixed": "its loss scaling does not reach into the manual loop",
    "bf16-true": ROUNDED,
    "16-true": ROUNDED,
    "transformer-engine": ROUNDED,
    "transformer-engine-float16": ROUNDED,
    "64-true": "the base computes in bf16 or fp32",
}
ATTENTION_BACKENDS = ("auto", "flash", "varlen", "sdpa", "eager")


@dataclass(frozen=True, slots=True)
class Hardware:
    """What was chosen and why; `reasons` maps each choice to one sentence."""

    device: str
    device_name: str
    attention: str
    reasons: dict[str, str]

    def to_json(self) -> dict:
        return asdict(self)


def choose_hardware(
    device: torch.device,
    attention: str = "auto",
    dtype: torch.dtype = torch.bfloat16,
    *,
    deterministic: bool = False,
) -> Hardware:
    """Decides the attention backend for a device. Raises UserError when the asked-for one can't run there.

    dtype: that attention computes in. deterministic: its gradients must be the same bits each time.
    """
    if attention not in ATTENTION_BACKENDS:
        raise UserError(f"model.attention {attention!r}: choose from {', '.join(ATTENTION_BACKENDS)}")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    backend, reason = choose_attention(device, attention, dtype, deterministic=deterministic)
    return Hardware(str(device), name, backend, {"attention": f"{backend}: {reason}"})


def choose_attention(
    device: torch.device, attention: str, dtype: torch.dtype, *, deterministic: bool = False
) -> tuple[str, str]:
    """(backend, reason). `flash` and `varlen` read `cu_seqlens` themselves; `sdpa` and `eager` go by document."""
    missing = {"flash": why_not_flash(device, dtype), "varlen": why_not_varlen(device, dtype), "sdpa": "", "eager": ""}
    if deterministic:  # PyTorch's own obey `torch.use_deterministic_algorithms`, which the Trainer calls
        missing["flash"] = missing["flash"] or why_not_deterministic_flash()
    if attention != "auto":
        if missing[attention]:
            raise UserError(f"model.attention {attention}: {missing[attention]}; use model.attention: auto")
        return attention, "asked for"
    if not missing["flash"]:
        return "flash", "flash-attn is installed and the GPU runs it"
    if not missing["varlen"]:
        return "varlen", f"PyTorch's variable-length attention ({missing['flash']})"
    return "sdpa", f"one call a document ({missing['flash']}; {missing['varlen']})"


def why_not_flash(device: torch.device, dtype: torch.dtype) -> str:
    if device.type != "cuda":
        return "flash-attn needs a CUDA GPU"
    if dtype == torch.float32:
        return "flash-attn computes in 16 bits, not in fp32"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "flash-attn needs compute capability 8.0"
    return "" if find_spec("flash_attn") else "flash-attn is not installed"


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


def why_not_varlen(device: torch.device, dtype: torch.dtype) -> str:
    if device.type != "cuda":
        return "PyTorch's varlen attention needs a CUDA GPU"
    if dtype == torch.float32:
        return "PyTorch's varlen attention computes in 16 bits, not in fp32"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "PyTorch's varlen attention needs compute capability 8.0"
    return "" if find_spec("torch.nn.attention.varlen") else "this PyTorch has no varlen attention"


def check_precision(device: torch.device, precision: str) -> None:
    """Refuses what the loop does not train right in, and bf16 on a GPU that would emulate it."""
    if precision not in PRECISIONS:
        raise UserError(f"trainer.precision {precision}: {PRECISION_REASONS.get(precision, 'unknown')}; use bf16-mixed")
    if "bf16" in precision and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise UserError(f"trainer.precision {precision}: {name} has no bf16; use trainer.precision: 32-true")


def pick_device() -> torch.device:
    """The device for stages without a Trainer: the current GPU, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
