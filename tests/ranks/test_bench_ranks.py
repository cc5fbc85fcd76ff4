"""scripts/bench_ranks.py, which is what a machine with several GPUs runs, on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_ranks.py"
KEYS = {
    "data.seq_len": 256,
    "data.val_fraction": 0.02,
    "model.lora": "{r: 4, alpha: 8, dropout: 0.0, target_modules: all-linear}",
    "model.lr": 1e-3,
}


@pytest.mark.wide
@pytest.mark.timeout(900)
def test_bench_ranks_on_the_cpu(tiny_llama, tmp_path):
    """Equal losses, a killed rank that goes on bit-equal, equal texts; a distance above the bound is exit code 1."""
    command = [sys.executable, SCRIPT, "--base", tiny_llama, "--source", "quickstart", "--work", tmp_path]
    command += ["--accelerator", "cpu", "--rows", 8, "--micro_batch_size", 2, "--steps", 12, "--limit", 12]
    keys = ["--", *(part for key, value in KEYS.items() for part in (f"--{key}", value))]

    def run(*options: object) -> tuple[int, list[list[str]]]:
        line = [str(part) for part in (*command, *options, *keys)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        ended = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
        assert ended.returncode in (0, 1) and "Traceback" not in ended.stderr, ended.stdout + ended.stderr
        return ended.returncode, [line.strip("| ").split(" | ") for line in ended.stdout.splitlines()]

    # without the part `write`, whose commands have tests of their own
    code, lines = run("--bound", 1e-4, "--parts", "speed", "kill", "restart", "evaluate")
    rows = {(row[0], len(row)): row for row in lines}
    assert code == 0, lines
    distances = [float(rows[name, 8][5]) for name in ("one", "ddp", "fsdp2")]
    assert distances[0] == 0 and all(0 < distance < 1e-4 for distance in distances[1:])
    for name in ("ddp", "fsdp2"):
        assert "rank 1 ended with SIGKILL" in rows[name, 6][2] and rows[name, 6][-1] == "True"
    assert [rows[precision, 7][1:3] for precision in ("bf16", "fp32")] == [["12", "12"]] * 2
    assert run("--parts", "speed", "--bound", 1e-9)[0] == 1
