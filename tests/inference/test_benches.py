"""The benchmarks of writing, rehearsed on a CPU: what runs for minutes on a GPU should not fail there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def run(script: str, *options: object) -> str:
    command = [sys.executable, str(SCRIPTS / script), *map(str, options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, env=environment)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.wide
def test_bases_are_compared_at_the_sizes_of_one(base, tiny_llama, tmp_path):
    shapes = ["--like", "llama2-7b", "--tokenizer", base, "--tiny"]
    lengths = ["--variants", "slots", "--rows", 6, "--prompt_tokens", 12, "--new_tokens", 4, "--repeats", 1]
    out = run(
        "bench_generation.py", "--base", tiny_llama, "qwen3-8b", *shapes, *lengths, "--out", tmp_path / "out.json"
    )
    first, second = json.loads((tmp_path / "out.json").read_text())
    ratio = second["tokens_per_s"] / first["tokens_per_s"]
    assert out.splitlines()[-1].startswith(f"| qwen3-8b | slots | {second['tokens_per_s']:,} | {ratio:.3f} |")


@pytest.mark.wide
def test_the_cost_of_texts_while_training(tiny_llama, tmp_path):
    keys = ["--data.seq_len", 256, "--data.rows_per_step", 2, "--model.quantization", "none"]
    sizes = ["--steps", 4, "--points", 2, "--rows", 4, "--lengths", "references", "--out", tmp_path / "out.json"]
    out = run("bench_val_generation.py", "--base", tiny_llama, "--source", "quickstart", *sizes, *keys)
    written, without = json.loads((tmp_path / "out.json").read_text())
    assert len(written["pass_s"]) == len(written["write_s"]) == 2 and without["pass_s"] == []
    assert all(0 < write < whole for write, whole in zip(written["write_s"], written["pass_s"], strict=True))
    assert "passes of a run over the rest of its training" in out and "command_s, with over without" in out
