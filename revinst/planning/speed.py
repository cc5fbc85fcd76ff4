"""How many tokens a second a config will train: measured speeds, scaled."""

import math
from dataclasses import dataclass

import torch

from revinst.model.hardware import DTYPES, cpu_tflop_per_s
from revinst.model.memory import Shape, flop_per_token
from revinst.model.micro_batch import StepSetup


@dataclass(frozen=True)
class Speed:
    """A measured speed that others are scaled from. parameters: that a token is multiplied with."""

    tflop_per_s: float
    parameters: float
    fused: bool
    where: str


# FLOP are counted by `flop_per_token`: 8P a token with everything recomputed, 6P with nothing.
SPEEDS = (
    Speed(455.0, 6.6e9, False, "Llama 2 7B, one H200, 8,600 tokens/s (dev/LOG.md)"),
    Speed(740.0, 6.6e9, True, "Llama 2 7B, one H200, fused, 14,011 to 18,677 tokens/s (dev/LOG.md)"),
    Speed(30.6, 0.135e9, False, "SmolLM2-135M, one H200, 37,900 tokens/s (dev/LOG.md)"),
    Speed(49.8, 0.135e9, True, "SmolLM2-135M, one H200, fused, 61,587 tokens/s (docs/speed.md)"),
)
# Of fused layers by `model.base_gemm`, on that H200 (docs/speed.md); of SmolLM2's `fp8_backward` 1.14.
FASTER = {"bf16": 1.0, "fp8_backward": 1.17, "fp8": 1.41}

# Seconds that a TFLOP of training takes on a CPU: the first over the TFLOP/s of its products, the second beside them.
# From two points of one machine, 2 cores with products at 0.44 (bf16) and 0.17 (fp32): 0.2 TFLOP/s in bf16 (220 to 360
# tokens/s), and 1.35 times the time in fp32 (the quickstart, docs/hardware.md).
CPU_S_BY_PRODUCTS, CPU_S_BESIDE = 0.49, 3.9

# Dense bf16 TFLOP/s of data sheets, to scale the H200's speeds by; what is not here is not guessed at.
DATA_SHEETS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10G": 70, "4090": 165, "3090": 71}


def predict_speed(shape: Shape, recomputed: int, step: StepSetup) -> tuple[float | None, str]:
    """Tokens/s over all devices, and where it comes from: the measured speed of the base nearest in size."""
    flop = flop_per_token(shape, recomputed)
    if not step.hardware.on_gpu:
        product = cpu_tflop_per_s().get(DTYPES[step.hardware.dtype])
        if product is None:
            return None, f"no figure for {step.hardware.dtype} on a CPU; --measure takes one"
        source = f"SmolLM2-135M on 2 CPU cores (docs/hardware.md), by products at {product:.2f} TFLOP/s here"
        return 1e12 / flop / (CPU_S_BY_PRODUCTS / product + CPU_S_BESIDE), f"scaled from {source}"
    parameters = shape.linear_parameters + shape.vocabulary * shape.hidden
    nearest = min(SPEEDS, key=lambda speed: (abs(math.log(speed.parameters / parameters)), speed.fused != step.fused))
    speed, source = nearest.tflop_per_s * 1e12 / flop, f"scaled from {nearest.where}"
    if nearest.fused:
        speed *= FASTER[step.base_gemm]
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        sheet = next((value for part, value in DATA_SHEETS.items() if part in name), None)
        if sheet is None:
            return None, f"no figure for {name}; --measure takes one"
        speed, source = speed * sheet / DATA_SHEETS["H200"], f"{source}, by data sheet for {name}"
    return speed * step.machine.ranks, source
