"""The compute dtype of a CPU: bf16 where its products are faster than fp32's, wherever the flag comes from."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from revinst.model import hardware
from revinst.model.hardware import choose_dtype, choose_hardware, choose_precision

CPU = torch.device("cpu")
EMULATED = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
X86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="they speak of x86's instructions")
ASK = "from revinst.model.hardware import *; print(choose_dtype(torch.device('cpu'))[0], choose_precision('cpu'))"


@pytest.mark.parametrize(("speed", "dtype", "says"), [(2.2, "bf16", "2.2 times as fast"), (0.1, "fp32", "10.0 times")])
def test_the_faster_one_is_taken(monkeypatch, speed, dtype, says):
    monkeypatch.setattr(hardware, "bf16_speed_on_cpu", lambda: speed)
    chosen, reason = choose_dtype(CPU)
    assert chosen == dtype and says in reason
    assert choose_precision("cpu") == {"bf16": "bf16-mixed", "fp32": "32-true"}[dtype]
    other = {"bf16": torch.float32, "fp32": torch.bfloat16}[dtype]
    assert choose_hardware(CPU, dtype=other).reasons["precision"].endswith(f"this device takes {dtype} ({reason})")
    assert choose_hardware(CPU).dtype == dtype


@X86
@pytest.mark.skipif(EMULATED.keys().isdisjoint(os.environ), reason="`make test-emulated` asks")
def test_the_emulation_is_one():
    """Or the tests beside this one would say nothing of a CPU without bf16."""
    assert choose_dtype(CPU)[0] == "fp32" and hardware.bf16_speed_on_cpu() < 0.5


@X86
def test_without_bf16_instructions_it_is_fp32():
    """PyTorch and oneDNN told to use AVX2 alone, as most laptops have."""
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=os.environ | EMULATED, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["fp32", "32-true"]


def test_timing_draws_nothing():
    """Or the first run of a process would get another adapter than the second."""
    state = torch.get_rng_state()
    hardware.cpu_tflop_per_s.cache_clear()
    assert hardware.bf16_speed_on_cpu() > 0
    assert torch.equal(torch.get_rng_state(), state)
