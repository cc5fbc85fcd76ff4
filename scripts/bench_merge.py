"""Time and peak host memory of a merge at Llama 2 7B's shape, on a base and an adapter of random weights.

    python scripts/bench_merge.py FOLDER [--layers 32] [--onto nf4]

FOLDER gets the base (13.5 GB with all 32 layers), the adapter and the merged model; base and adapter are kept.
"""

import json
import shutil
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from revinst.config.words import MERGE_TARGETS
from revinst.export.merge import plan_merge, write_merge
from revinst.model.base_files import build_empty_model
from revinst.options import Parser
from revinst.system import peak_bytes

RANK = 64
SHARD_LAYERS = 12  # about 5 GB, as hubs have them


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--onto", choices=MERGE_TARGETS, default="nf4")
    options = parser.parse_args()
    base, adapter, out = (options.folder / name for name in ("base", "adapter", "merged"))
    if not (base / "config.json").is_file():
        make_base(base, options.layers)
        make_adapter(adapter, base)
        print(f"made {base}; run it again to measure")  # in a process that has not held a shard of its own
        return
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    start = time.perf_counter()
    write_merge(plan_merge(str(base), adapter, options.onto), out)
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    peak = peak_bytes()
    print(
        f"onto {options.onto}: {size / 2**30:.2f} GiB in {seconds:.0f} s, peak resident memory {peak / 2**30:.2f} GiB"
    )


def make_base(folder: Path, layers: int) -> None:
    config = LlamaConfig(num_hidden_layers=layers, architectures=["LlamaForCausalLM"])  # its defaults are 7B's shape
    folder.mkdir(parents=True)
    weight_map: dict[str, str] = {}
    shapes = {name: tensor.shape for name, tensor in build_empty_model(config, "made").state_dict().items()}
    for shard in range(-1, layers // SHARD_LAYERS + 1):
        numbers = range(shard * SHARD_LAYERS, (shard + 1) * SHARD_LAYERS)
        names = [name for name in shapes if layer_of(name) in (numbers if shard >= 0 else (-1,))]
        if names:
            file = f"model-{shard + 1}.safetensors"
            random = torch.Generator().manual_seed(shard)
            tensors = {
                name: torch.empty(shapes[name], dtype=torch.bfloat16).normal_(std=0.02, generator=random)
                for name in names
            }
            save_file(tensors, folder / file, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config.save_pretrained(folder)


def layer_of(name: str) -> int:
    """-1: of no layer."""
    return int(name.split(".")[2]) if ".layers." in name else -1


def make_adapter(folder: Path, base: Path) -> None:
    from transformers import AutoConfig

    model = build_empty_model(AutoConfig.from_pretrained(base), str(base))
    tensors = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            prefix = f"base_model.model.{name}.lora_"
            tensors[f"{prefix}A.weight"] = 0.02 * torch.randn(RANK, module.in_features)
            tensors[f"{prefix}B.weight"] = 0.02 * torch.randn(module.out_features, RANK)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 16}
    config |= {"target_modules": "all-linear", "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main()
