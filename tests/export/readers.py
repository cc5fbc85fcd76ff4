"""Other readers of what a merge writes, each in an environment of its own: transformers 4.56, and llama.cpp.

Made once, under .cache/readers; PyTorch and NumPy are this environment's. llama.cpp is compiled, for some ten minutes,
where pip finds no wheel.
"""

import json
import os
import site
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from revinst.data.tokenizer import Tokenizer
from revinst.export import gguf

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "transformers-4.56": ["transformers==4.56.*", "tokenizers==0.22.*", "huggingface_hub==0.36.*"],
    "llama.cpp": ["llama-cpp-python==0.3.36", "diskcache==5.6.3"],
}
# For any x86-64 of the last ten years, without the parts that look at pictures.
BUILD = {"CMAKE_ARGS": "-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF", "CMAKE_BUILD_PARALLEL_LEVEL": "2"}

OLD_TRANSFORMERS = """
import json, sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
transformers.utils.logging.set_verbosity_error()
assert transformers.__version__.startswith("4.56"), transformers.__version__
folders, texts, out = json.load(open(sys.argv[1]))
said = {}
for folder in folders:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    ids = [tokenizer(text).input_ids for text in texts]
    with torch.no_grad():
        logits = [model(torch.tensor([row])).logits[0] for row in ids]
        written = model.generate(torch.tensor(ids[:1]), attention_mask=torch.ones(1, len(ids[0])), max_new_tokens=12)
    chat = [{"role": "user", "content": "Hi."}]
    chat = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False)).input_ids if tokenizer.chat_template else []
    ends = model.generation_config.eos_token_id
    said[folder] = {"ids": ids, "logits": logits, "written": written[0].tolist(), "chat": chat, "ends": ends}
torch.save(said, out)
"""

LLAMA_CPP = """
import json, sys, torch
from llama_cpp import Llama, llama_vocab_is_eog
files, texts, out = json.load(open(sys.argv[1]))
said = {}
for file in files:
    model = Llama(file, n_ctx=512, n_threads=1, logits_all=True, type_k=0, type_v=0, verbose=False)
    ids = [model.tokenize(text.encode(), add_bos=model._model.add_bos_token(), special=True) for text in texts]
    logits = []
    for row in ids:
        model.reset()
        model.eval(row)
        logits.append(torch.tensor(model.scores[: len(row)].copy()))
    ends = [number for number in range(model.n_vocab()) if llama_vocab_is_eog(model._model.vocab, number)]
    said[file] = {"ids": ids, "logits": logits, "ends": ends, "rows": model.n_vocab()}
torch.save(said, out)
"""


def make_environment(name: str) -> Path:
    """Its Python. Skips where it can't be made, as without a network."""
    folder = ROOT / ".cache" / "readers" / name
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = folder / "installed.json"
    if not done.is_file() or json.loads(done.read_text()) != PACKAGES[name]:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES[name]]
        made = subprocess.run(install, check=False, capture_output=True, text=True, env=os.environ | BUILD)
        if made.returncode:
            pytest.skip(f"{name} can't be installed: {(made.stderr.strip().splitlines() or ['no reason'])[-1][:200]}")
        own = subprocess.check_output([python, "-c", "import site; print(site.getsitepackages()[0])"], text=True)
        (Path(own.strip()) / "shared.pth").write_text("\n".join(site.getsitepackages()))
        done.write_text(json.dumps(PACKAGES[name]))
    return python


def write_exact_gguf(folder: Path, file: Path, tokenizer: Tokenizer) -> None:
    """In fp32, which nobody needs to serve but in which nothing is rounded, activations neither."""
    f32 = {"f32": ("F32", "F32")}
    with patch.dict(gguf.FORMATS, f32), patch.dict(gguf.FILE_TYPES, {"f32": "ALL_F32"}):
        gguf.write_gguf(folder, file, "f32", tokenizer)


def read_with(name: str, script: str, paths: list[Path], texts: list[str], folder: Path) -> list[dict[str, Any]]:
    """What a reader makes of each path: ids and logits of the texts."""
    python = make_environment(name)
    out = folder / f"{name}.pt"
    (folder / "asked.json").write_text(json.dumps([[str(path) for path in paths], texts, str(out)]))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = [str(python), "-c", script, str(folder / "asked.json")]
    done = subprocess.run(run, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    said = torch.load(out)
    return [said[str(path)] for path in paths]
