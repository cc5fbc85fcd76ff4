"""What comes from outside runs no code, and nothing leaves the machine."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from revinst import cli
from tests.survive.faults import arguments

ROOT = Path(__file__).resolve().parents[2]


class Planted:
    """Touches a file when unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def run_command(*args: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(arg) for arg in args])
    return int(ended.value.code or 0)


def test_no_pickle_and_no_remote_code_in_the_source():
    source = "\n".join(path.read_text() for path in (ROOT / "revinst").rglob("*.py"))
    assert not re.findall(r"weights_only\s*=\s*False|trust_remote_code\s*=\s*True|pickle\.load|yaml\.load\(", source)
    loads = re.findall(r"torch\.load\([^)]*\)", source)
    assert len(loads) >= 2 and all("weights_only=True" in load for load in loads)


def test_planted_checkpoint(folder, tiny_llama, stopped, copy_of, tmp_path, capsys, fault):  # noqa: PLR0917
    """Even one whose mark is right."""
    from revinst.runs.checkpoints import AtomicCheckpointIO

    run = copy_of("stopped", "planted")
    AtomicCheckpointIO().save_checkpoint({"revinst": Planted(tmp_path / "pwned")}, run / "checkpoints/step-000009.ckpt")
    with fault("planted pickle or code") as counts:
        counts["injected"] += 2
        assert run_command(*arguments(folder, "planted", tiny_llama)) == 2
        assert "not a checkpoint that can be read" in capsys.readouterr().err
        (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(Planted(tmp_path / "pwned")))
        assert run_command(*arguments(folder, "new", tiny_llama, resume=tmp_path / "evil.ckpt")) == 2
        assert not (tmp_path / "pwned").exists()


def test_planted_adapter_and_base(folder, tiny_llama, tmp_path, capsys, fault):
    """Pickled weights are not looked at; a config that names code of its own gets it not run."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(tiny_llama), "r": 4, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    torch.save(Planted(tmp_path / "pwned"), adapter / "adapter_model.bin")
    (tmp_path / "texts.txt").write_text("Paris is a city.")
    args = (tmp_path / "texts.txt", "--output", tmp_path / "out.jsonl")
    with fault("planted pickle or code") as counts:
        counts["injected"] += 1
        assert run_command("generate", adapter, *args) == 2
        assert not (tmp_path / "pwned").exists()
    base = Path(shutil.copytree(tiny_llama, tmp_path / "base"))
    config = json.loads((base / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (base / "config.json").write_text(json.dumps(config))
    (base / "evil.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')")
    capsys.readouterr()
    with fault("planted pickle or code") as counts:
        counts["injected"] += 1
        assert run_command(*arguments(folder, "evil", base)) == 2
        assert "model.base" in capsys.readouterr().err and not (folder / "evil").exists()
        assert not (tmp_path / "pwned").exists()


STAGES = """
import sys
tried = []

def refuse(event, args):
    address = args[1] if event == "socket.connect" else args[0] if event == "socket.getaddrinfo" else ""
    if address and not isinstance(address, str | bytes) or event == "socket.getaddrinfo":
        tried.append(address)
        raise OSError("no network in this test")

sys.addaudithook(refuse)
from revinst import cli
from tests.survive.faults import arguments
from pathlib import Path

folder, base, out = map(Path, sys.argv[1:])
(out / "texts.txt").write_text("Paris is a city.")
run = folder / "alone"
fit = arguments(folder, "alone", base, **{"trainer.max_steps": 2, "samples.every_steps": 1})
stages = [
    fit,
    ["merge", run, out / "merged", "--drift_rows", 2],
    ["evaluate", run, "--limit", 2, "--max_new_tokens", 4],
    ["evaluate", run, "--limit", 2, "--max_new_tokens", 4, "--adapter", "none"],
    ["compare", run / "evaluation" / "limit-2-max-4", run / "evaluation" / "base-limit-2-max-4"],
    ["generate", run, out / "texts.txt", "--output", out / "out.jsonl", "--max_new_tokens", 4],
    ["inspect", run / "config.yaml"],
    ["plan", run / "config.yaml"],
]
for stage in stages:
    try:
        cli.main([str(part) for part in stage])
    except SystemExit as ended:
        assert not ended.code, (stage, ended.code)
assert not tried, tried
print(f"{len(stages)} stages done")
"""


@pytest.mark.wide
def test_nothing_is_sent(folder, tiny_llama, tmp_path, fault):
    """The stages look up no host and connect to none, also when nobody said that they are offline; a token in the
    environment is in no file that they write.
    """
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    environment |= {"HF_TOKEN": "hf_canary0123456789", "PYTHONPATH": str(ROOT)}
    with fault("stage without network") as counts:
        done = subprocess.run(
            [sys.executable, "-c", STAGES, str(folder), str(tiny_llama), str(tmp_path)],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        counts["injected"] += int(done.stdout.split()[-3])
        files = [path for part in (folder / "alone", tmp_path) for path in part.rglob("*") if path.is_file()]
        assert len(files) > 20 and not any(b"hf_canary" in path.read_bytes() for path in files)
        assert "hf_canary" not in done.stdout + done.stderr
