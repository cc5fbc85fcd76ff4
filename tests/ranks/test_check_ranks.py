"""scripts/check_ranks.py, which is what a machine with a GPU runs, on the CPU."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_ranks.py"


@pytest.mark.wide
def test_check_ranks_on_the_cpu(tiny_llama):
    command = [sys.executable, SCRIPT, "--base", tiny_llama, "--accelerator", "cpu", "--seq_len", "128", "--steps", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = [line.split() for line in ended.stdout.splitlines() if line.endswith(" ok")]
    assert [row[0] for row in rows] == ["fp32"] * 4 + ["bf16"] * 4 and all("equal" in row for row in rows)
    gradients = [float(row[-5]) for row in rows]  # gradient, loss, bytes, last loss, ok
    assert gradients[0] == gradients[4] == 0, "one process is compared with itself"
    assert all(0 < gradient < 1e-5 for gradient in gradients[2:4]) and all(gradient > 0 for gradient in gradients[6:])
