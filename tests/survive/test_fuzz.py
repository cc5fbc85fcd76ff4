"""Malformed files of a run, an adapter or a config: a line that says what and where, never a traceback."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from revinst.commands.config import RevinstCLI, read_run_config
from revinst.commands.trained import open_trained
from revinst.errors import UserError
from revinst.model.lora import load_adapter
from revinst.training.checkpoint_files import newest_checkpoint, prune, read_checkpoint
from revinst.training.loggers import read_rows

pytestmark = pytest.mark.slow
JUNK = [b"", b"\x00", b"{}", b"[]", b"null", b"- - :", b'{"a": 1e999}', b"\xff\xfe", b"!!python/object:os.system {}"]


def spoil(content: bytes, rng: random.Random) -> bytes:
    """One of: cut off, a byte changed, a stretch taken out or doubled, a value replaced, junk."""
    at = rng.randrange(len(content) + 1)
    end = min(len(content), at + rng.randrange(1, 40))
    kind = rng.randrange(6)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
    if kind == 2:
        return content[:at] + content[end:]
    if kind == 3:
        return content[:end] + content[at:]
    if kind == 4:
        return content[:at] + rng.choice(JUNK) + content[end:]
    return rng.choice(JUNK)


def fuzz(path: Path, use: Callable[[], object], count: int, seed: int) -> int:
    """How many of `count` spoilt versions were refused; any other error fails the test."""
    content, rng, refused = path.read_bytes(), random.Random(seed), 0
    for _ in range(count):
        path.write_bytes(spoil(content, rng))
        try:
            use()
        except (UserError, OSError) as error:
            refused += 1
            assert str(error).strip()
        except Exception:
            print("spoilt to:", path.read_bytes()[:2000])
            raise
    path.write_bytes(content)
    return refused


def test_configs(folder, whole, tmp_path):
    path = Path(shutil.copy(folder / "whole" / "config.yaml", tmp_path))
    assert fuzz(path, lambda: RevinstCLI(["--config", str(path)], train=False), 150, 1) > 40


def test_run_folders(folder, whole, copy_of):
    run = copy_of("whole", "fuzzed")
    assert fuzz(run / "manifest.json", lambda: open_trained(str(run)), 40, 2) > 10
    assert fuzz(run / "config.yaml", lambda: read_run_config(run / "config.yaml"), 60, 3) > 15
    assert fuzz(run / "metrics.csv", lambda: read_rows(run / "metrics.csv"), 80, 4) >= 0


def test_checkpoints(stopped, copy_of):
    run = copy_of("stopped", "fuzzed-checkpoints")
    newest, folder = run / "checkpoints" / "step-000007.ckpt", run / "checkpoints"
    other = newest.with_name("step-000006.ckpt")
    for path, count, seed in ((newest, 60, 5), (newest.with_suffix(".json"), 60, 6)):

        def use() -> None:
            assert newest_checkpoint(folder) in (newest, other)
            prune(folder, 2, 1)
            read_checkpoint(newest)

        fuzz(path, use, count, seed)
    assert newest_checkpoint(folder) == newest


def test_adapters(folder, whole, tiny_llama, copy_of):
    run = copy_of("whole", "fuzzed-adapter")
    base = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    adapter = run / "adapter"

    def use() -> None:
        load_adapter(base, adapter).unload()

    assert fuzz(adapter / "adapter_config.json", use, 80, 7) > 20
    assert fuzz(adapter / "adapter_model.safetensors", use, 40, 8) > 10
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 4
