"""What lets revinst run where it was not run yet: Windows, macOS, and machines without bitsandbytes or Triton."""

import ast
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from revinst import system
from revinst.data import example_table
from revinst.errors import UserError
from revinst.export.standalone import choose_target
from revinst.inference.engine.cached import load_ops
from revinst.inference.engine.support import why_not_device
from revinst.inference.trained import Trained
from revinst.model.fused.support import choose_layers
from revinst.model.hardware import choose_hardware, choose_quantization, has_triton, why_no_bitsandbytes
from revinst.runs.folder import Run
from revinst.system import peak_bytes
from revinst.training.optim import build_optimizer
from tests.elsewhere import KERNELS
from tests.survive.faults import arguments, write_rows

ROOT = Path(__file__).resolve().parents[1]
CPU, MPS, CUDA = torch.device("cpu"), torch.device("mps"), torch.device("cuda")
NOT_PORTABLE = {
    "bad_module": "import fcntl",
    "bad_library": "import bitsandbytes",
    "bad_name": "import os\n\nUSER = os.getuid()",
    "bad_signal": "import signal\n\nCODES = {signal.SIGUSR1: 143}",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_rows(folder / "rows.jsonl")
    return folder


@pytest.fixture(scope="module")
def elsewhere(runs, tiny_llama) -> dict:
    """What a process on another system reports: of all imports, and of an inspect, a fit and an evaluate."""
    files = []
    for name, code in NOT_PORTABLE.items():
        files.append(runs / f"{name}.py")
        files[-1].write_text(code + "\n", encoding="utf-8")
    model = ["--model.base", str(tiny_llama)]
    commands = [
        ["inspect", str(ROOT / "configs" / "quickstart.yaml"), *model],
        arguments(runs, "elsewhere", tiny_llama, **{"trainer.max_steps": 2}),
        ["evaluate", str(runs / "elsewhere"), "--limit", "1", "--max_new_tokens", "4"],
        ["merge", str(runs / "elsewhere"), str(runs / "merged"), "--onto", "nf4"],
    ]
    asked = json.dumps({"files": list(map(str, files)), "commands": commands})
    line = [sys.executable, str(ROOT / "tests" / "elsewhere.py"), asked]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(line, capture_output=True, text=True, check=False, timeout=240, env=environment, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_every_module_imports_without_what_only_some_systems_have(elsewhere):
    """Triton's own files can't, which shows, as the made-up files do, that what is hidden is missed."""
    assert elsewhere["imported"] > 100
    assert elsewhere["failed"].keys() == {*KERNELS, *NOT_PORTABLE}, elsewhere["failed"]


def test_commands_run_there(elsewhere, runs):
    """On a console of 256 characters; nf4 becomes none, in one line, and stays so for what works with the run."""
    inspect, fit, evaluate, merge = elsewhere["commands"]
    assert (inspect["code"], fit["code"], evaluate["code"]) == (0, 0, 0), (inspect, fit, evaluate)
    assert "?" in inspect["out"] and "fill" in inspect["out"]
    assert fit["out"].count("quantization: none: bitsandbytes is not installed") == 1
    manifest = json.loads((runs / "elsewhere" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["completed"] and manifest["hardware"]["quantization"] == "none"
    assert manifest["versions"]["bitsandbytes"] == "not installed"
    scores = json.loads(next((runs / "elsewhere" / "evaluation").rglob("scores.json")).read_text(encoding="utf-8"))
    assert scores["n"] == 1
    settings = next((runs / "elsewhere" / "evaluation").rglob("predictions.settings.json"))
    assert json.loads(settings.read_text(encoding="utf-8"))["quantization"] == "none"
    assert merge["code"] == 2 and "trained on a 16-bit base" in merge["err"]


@pytest.fixture
def no_bitsandbytes(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    why_no_bitsandbytes.cache_clear()
    yield
    why_no_bitsandbytes.cache_clear()


def test_quantization_is_what_the_machine_can(no_bitsandbytes):
    assert choose_quantization("nf4", CPU) == ("none", "bitsandbytes is not installed")
    assert choose_quantization("none", CPU) == ("none", "asked for")
    why_no_bitsandbytes.cache_clear()
    sys.modules.pop("bitsandbytes")
    assert choose_quantization("nf4", CPU) == ("nf4", "asked for")
    quantization, reason = choose_quantization("nf4", MPS)
    assert quantization == "none" and "Apple" in reason
    chosen = choose_hardware(MPS, quantization="nf4")
    assert (chosen.device_name, chosen.quantization) == ("Apple GPU", "none")
    assert chosen.reasons["quantization"].startswith("none: ")


def test_what_needs_4_bits_or_bitsandbytes_says_so(no_bitsandbytes):
    """A merge on other weights than in training would be another model; an optimizer has an equal one in torch."""
    trained = Trained(Path(), "base", "nf4", "blog", with_context=False, seq_len=128)
    assert trained.loads_as == "none"
    with pytest.raises(UserError, match="bitsandbytes is not installed"):
        choose_target(trained, None)
    assert choose_target(trained, "16bit") == "16bit"
    parameter = torch.nn.Parameter(torch.zeros(2))
    for device in (MPS, CUDA):
        optimizer, reason = build_optimizer([parameter], "paged_adamw_32bit", 1e-3, (0.9, 0.999), 0.0, device)
        assert type(optimizer) is torch.optim.AdamW
        assert ("bitsandbytes is not installed" if device is CUDA else "this is mps") in reason


def test_a_gpu_without_triton_runs_plain_layers(monkeypatch):
    """PyTorch's wheels for Windows have none."""
    monkeypatch.setitem(sys.modules, "triton", None)
    layers, reason = choose_layers([], "auto", on_gpu=True, triton=has_triton(CUDA))
    assert layers == [] and "need Triton" in reason
    with pytest.raises(UserError, match=r"Triton and a GPU of compute capability 8\.0 are needed"):
        choose_layers([], "fused", on_gpu=True, triton=has_triton(CUDA))
    assert load_ops(CUDA).__name__.endswith("plain") and why_not_device(CUDA) == why_not_device(CPU) == ""
    assert "mps" in why_not_device(MPS), "slots are not for it, and its samples are written without them"


HOLDING = """
from revinst.system import peak_bytes
size = peak_bytes() + 2**28
held = b"1" * size
print(size, peak_bytes())
"""


def test_peak_memory_is_in_bytes_and_of_this_process():
    """Whatever the one that started it has held."""
    held = bytearray(b"1" * 2**29)
    size, peak = map(
        int, subprocess.run([sys.executable, "-c", HOLDING], capture_output=True, check=True, cwd=ROOT).stdout.split()
    )
    assert size < peak < size + 2**27 and size < len(held) < peak_bytes()


def test_a_lock_is_the_kernels_or_none(tmp_path, monkeypatch):
    """Where a file system has no locks, a stand-in would outlive an owner that was killed."""

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    run, refused = Run(tmp_path / "run"), pytest.raises(UserError, match=f"in use by process {os.getpid()} on ")
    with run.lock(), refused, Run(run.path).lock():
        raise AssertionError("the second one got it too")
    assert not run.path.exists(), "nothing was started in it"
    monkeypatch.setattr("fcntl.flock", missing)
    with pytest.raises(OSError, match="not implemented"), run.lock():
        raise AssertionError("there is no lock")


def test_windows_flushes_no_folders(tmp_path, monkeypatch):
    opened = []
    original = os.open
    monkeypatch.setattr(os, "open", lambda path, flags: opened.append((path, flags)) or original(path, flags))
    file = tmp_path / "file"
    file.write_bytes(b"content")
    system.sync(tmp_path)
    system.sync(file)
    assert opened == [(tmp_path, os.O_RDONLY), (file, os.O_RDONLY)]
    opened.clear()
    monkeypatch.setattr(system, "IS_WINDOWS", True)
    system.sync(tmp_path)
    system.sync(file)
    assert opened == [(file, os.O_RDWR)]


def test_rows_are_not_mapped_on_windows(monkeypatch):
    """It would not let the file go."""
    here, _ = example_table.load_examples("quickstart")
    mapped = psutil.Process().memory_maps
    assert sum("revinst-rows" in region.path for region in mapped()) > 0
    before = sum("revinst-rows" in region.path for region in mapped())
    monkeypatch.setattr(example_table, "IS_WINDOWS", True)
    there, _ = example_table.load_examples("quickstart")
    assert sum("revinst-rows" in region.path for region in mapped()) == before
    assert there.table.equals(here.table) and len(there) > 50


def text_files(tree: ast.AST) -> list[tuple[int, set[str], bool]]:
    """(line, keywords, whether it writes) of each call that opens a file as text.

    >>> text_files(ast.parse("path.open('wb'); path.write_text(text, newline='')"))
    [(1, {'newline'}, True)]
    """
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        is_method = isinstance(call.func, ast.Attribute)
        name = ast.unparse(call.func).rpartition(".")[2]
        if name in ("open", "fdopen", "TemporaryFile") and ast.unparse(call.func) != "os.open":
            at = int(name == "fdopen" or not is_method)
            mode = ast.unparse(call.args[at]) if len(call.args) > at else "wb" * (name == "TemporaryFile")
        elif name in ("read_text", "write_text") and is_method:
            mode = name[0]
        else:
            continue
        keywords = {keyword.arg or "" for keyword in call.keywords}
        # not `PredictionFile.open`, which gives no file, not what is thrown away, and not archives and their parts
        others = ("file.open()", "tarfile.open(", "archive.open(")
        is_other = "os.devnull" in ast.unparse(call) or ast.unparse(call).startswith(others)
        if "b" not in mode and "replace" not in keywords and not is_other:
            found.append((call.lineno, keywords, "w" in mode))
    return found


def test_text_files_are_the_same_on_every_system():
    """UTF-8, not what the system prefers, and lines that end in \\n where we write them: hashes are of bytes."""
    calls = text_files(ast.parse("open(f); p.open('w', encoding='utf-8'); q.open('rb'); r.read_text()"))
    assert calls == [(1, set(), False), (1, {"encoding"}, True), (1, set(), False)]
    wrong, count = [], 0
    for path in sorted((ROOT / "revinst").rglob("*.py")):
        for line, keywords, writes in text_files(ast.parse(path.read_text(encoding="utf-8"))):
            count += 1
            if "encoding" not in keywords or (writes and "newline" not in keywords):
                wrong.append(f"{path.relative_to(ROOT)}:{line}")
    assert count > 25 and not wrong, wrong
