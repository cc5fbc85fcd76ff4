"""Device, compute dtype, attention backend and 4-bit support: each decided once, with a reason to print."""

import time
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec

import torch

from revinst.config.trainer_flags import check_precision_name
from revinst.config.words import PRECISIONS
from revinst.errors import UserError
from revinst.model.attention import BACKENDS, Needs, choose_attention, why_not_extras

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# A bf16 product to an fp32 one, in speed: native ones were not seen below 1.07 on a busy machine, others above 0.23.
NATIVE_BF16 = 0.5


@dataclass(frozen=True, slots=True)
class Hardware:
    """What was chosen and why; `reasons` maps each choice to one sentence."""

    device: str
    device_name: str
    dtype: str  # of `DTYPES`
    attention: str
    quantization: str
    triton: bool  # our Triton kernels run there
    fp8: bool  # it multiplies in 8 bits
    reasons: dict[str, str]

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    def to_json(self) -> dict:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a model is trained on.

    dtype: what the Trainer's precision asks for; None: what the device takes by itself. ranks: processes with a device
    each, which share a step's rows, and the decoder layers too if `sharded`. deterministic: gradients must be the same
    bits each time. is_here: False: a GPU to plan for.
    """

    device: torch.device
    dtype: torch.dtype | None = None
    ranks: int = 1
    sharded: bool = False
    deterministic: bool = False
    is_here: bool = True


def choose_hardware(
    device: torch.device,
    attention: str = "auto",
    dtype: torch.dtype | None = None,
    quantization: str = "none",
    *,
    deterministic: bool = False,
    needs: Needs = Needs(),  # noqa: B008  (frozen)
) -> Hardware:
    """Decides what depends on the device. Raises UserError when the asked-for attention can't run there.

    dtype: that was asked for; None: `choose_dtype` decides. quantization: that was asked for. deterministic: gradients
    must be the same bits each time. needs: of the base's attention.
    """
    dtype_name, why_dtype = choose_dtype(device)
    asked = next((name for name, value in DTYPES.items() if value == dtype), dtype_name)
    if asked != dtype_name:
        dtype_name, why_dtype = asked, f"asked for; by itself this device takes {dtype_name} ({why_dtype})"
    backend, why_attention = choose_attention(
        device, attention, DTYPES[dtype_name], deterministic=deterministic, needs=needs
    )
    chosen, why_quantization = choose_quantization(quantization, device)
    reasons = {
        "precision": f"{dtype_name}: {why_dtype}",
        "attention": f"{backend}: {why_attention}",
        "quantization": f"{chosen}: {why_quantization}",
    }
    return Hardware(
        str(device), name_device(device), dtype_name, backend, chosen, has_triton(device), has_fp8(device), reasons
    )


def choose_for_machine(
    machine: Machine,
    attention: str,
    quantization: str,
    needs: Needs = Needs(),  # noqa: B008  (frozen)
) -> Hardware:
    """`choose_hardware` for training. Of a GPU that is not here: one of today, with every package installed."""
    if machine.is_here:
        return choose_hardware(
            machine.device, attention, machine.dtype, quantization, deterministic=machine.deterministic, needs=needs
        )
    dtype = next(name for name, value in DTYPES.items() if value == (machine.dtype or torch.bfloat16))
    backend = (
        next(name for name in BACKENDS if not why_not_extras(name, needs.extras)) if attention == "auto" else attention
    )
    return Hardware(str(machine.device), "a GPU that is not here", dtype, backend, quantization, True, True, {})


def name_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU" if device.type == "mps" else f"{torch.get_num_threads()} CPU threads"


def choose_dtype(device: torch.device) -> tuple[str, str]:
    """(of `DTYPES`, reason): what a device computes in where nothing was asked for, 4-bit layers and all."""
    if device.type == "cuda":
        name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        if capability >= (8, 0):
            return "bf16", f"{name} computes in it"
        if capability >= (7, 0):
            return "fp16", f"{name} has no bf16"
        return "fp32", f"{name} has no bf16, and is slow in fp16"
    if device.type != "cpu":
        return "fp32", f"nothing else was tried on {device.type}"
    ratio = bf16_speed_on_cpu()
    if ratio > NATIVE_BF16:
        return "bf16", f"a product is {ratio:.1f} times as fast as in fp32 on this CPU"
    return "fp32", f"this CPU has no bf16 of its own, a product takes {1 / ratio:.1f} times as long in it"


def bf16_speed_on_cpu() -> float:
    """How often a bf16 product is done in the time of an fp32 one: 2 to 3 where bf16 is native, 0.03 to 0.3 elsewhere.

    Timed, because what PyTorch says of a CPU (`mkldnn_bf16_supported`) is also true where bf16 is emulated.
    """
    speeds = cpu_tflop_per_s()
    return speeds[torch.bfloat16] / speeds[torch.float32]


@cache
def cpu_tflop_per_s() -> dict[torch.dtype, float]:
    """Of a product of this process's threads, by dtype."""
    x, weight = torch.full((256, 576), 0.5), torch.full((1536, 576), 0.5)  # random ones would shift the run's own draws
    best = {torch.bfloat16: float("inf"), torch.float32: float("inf")}
    for _ in range(8):  # the first also sets the kernels up; in turn, so that another job's load hits both
        for dtype, so_far in best.items():
            a, b = x.to(dtype), weight.to(dtype)
            since = time.perf_counter()
            torch.nn.functional.linear(a, b)
            best[dtype] = min(so_far, time.perf_counter() - since)
    flop = 2 * x.shape[0] * weight.numel()
    return {dtype: flop / seconds / 1e12 for dtype, seconds in best.items()}


def has_triton(device: torch.device) -> bool:
    """Whether our Triton kernels can run; Triton compiles for compute capability 8.0 and later."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def has_fp8(device: torch.device) -> bool:
    """Whether it multiplies in e4m3, and our kernels can make that of other numbers."""
    return has_triton(device) and torch.cuda.get_device_capability(device) >= (8, 9)


def available_bytes(device: torch.device) -> int:
    """Memory for all that this process has and may still take there."""
    if device.type == "cuda":
        return free_bytes(device) + torch.cuda.memory_allocated(device)
    import psutil

    return free_bytes(device) + psutil.Process().memory_info().rss


def free_bytes(device: torch.device) -> int:
    """Memory that this process may still take: what is free, in its own allocator's blocks too, under its own limit."""
    if device.type == "cuda":
        allocated = torch.cuda.memory_allocated(device)
        free, total = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - allocated
        return int(min(free, torch.cuda.get_per_process_memory_fraction(device) * total - allocated))
    import psutil

    return psutil.virtual_memory().available


def choose_quantization(asked: str, device: torch.device) -> tuple[str, str]:
    """(quantization, reason) of a base that is loaded on `device`: nf4 becomes none where it can't be."""
    if asked != "nf4":
        return asked, "asked for"
    if device.type == "mps":
        return "none", "4-bit layers have not been tried on Apple's GPUs"
    missing = why_no_bitsandbytes()
    return ("none", missing) if missing else ("nf4", "asked for")


@cache
def why_no_bitsandbytes() -> str:
    """Why there are no 4-bit layers; empty if there are. Installed is not enough: its import may fail."""
    try:
        import bitsandbytes  # noqa: F401
    except ModuleNotFoundError:
        return "bitsandbytes is not installed"
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return f"bitsandbytes can't be imported ({(str(error).splitlines() or [''])[0][:120]})"
    return ""


def check_precision(device: torch.device, precision: str) -> None:
    """Refuses what the loop does not train right in, and bf16 on a GPU that would emulate it."""
    check_precision_name(precision)
    if "bf16" in precision and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise UserError(f"trainer.precision {precision}: {name} has no bf16; leave it out: the hardware decides")


def pick_device() -> torch.device:
    """The device for stages without a Trainer: the current CUDA GPU, else the CPU, on Apple's machines too."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def device_of(accelerator: str) -> torch.device:
    """The device that a Trainer's accelerator means here: auto, cpu, gpu, cuda, mps."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_precision(accelerator: str = "auto") -> str:
    """Lightning's name for what `choose_dtype` says: the value for a Trainer's `precision`."""
    dtype, _ = choose_dtype(device_of(accelerator))
    return next(name for name, value in PRECISIONS.items() if value == dtype)
