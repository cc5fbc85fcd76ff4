"""How far an adapter's gradient is from that of fp32, in bf16 and with the base's products in 8 bits.

usage: gradient_distance.py --base FOLDER|SHAPE --source FILE [--tokenizer FOLDER] [--layers N] [--rows N] [--seq_len N]

All take the same rows, the same 4-bit weights and the same adapter, whose B is random, so that all of its gradient
counts: rank 64 on all linear layers, no dropout. SHAPE: of shapes.py, with --layers and random weights, made in a
folder that is deleted again. Distances are |g - g32| / |g32| of the whole gradient, of all A, of all B, and of the
tensor that differs most; 1 - cosine is of the whole. exact sums: fp8 whose products add up in all bits of fp32.
"""

import argparse
import gc
from pathlib import Path

import torch
from shapes import base_folder
from torch import Tensor

from revinst.config.settings import DataSettings, LoraSettings
from revinst.data.batch import MicroBatch, collate_rows
from revinst.data.datamodule import InstructionDataModule
from revinst.model.attention import BACKENDS, rows_by_sdpa
from revinst.model.base import load_base
from revinst.model.fused.fp8 import BaseGemm
from revinst.model.fused.support import choose_layers, fuse_layers
from revinst.model.hardware import has_triton, pick_device
from revinst.model.lora import attach_lora
from revinst.model.network import Network
from revinst.options import Parser

B_SPREAD = 0.01  # standard deviation of B's elements
EXACT = ", exact sums"
Gradient = dict[str, Tensor]


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", required=True, help="a folder, or a shape of shapes.py, made with random weights")
    parser.add_argument("--tokenizer", type=Path, help="folder of the tokenizer of a base that is made")
    parser.add_argument("--layers", type=int, default=4, help="of a base that is made")
    parser.add_argument("--source", required=True)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--seq_len", type=int, default=2048)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the adapter")
    options = parser.parse_args()
    with base_folder(options.base, options.tokenizer, layers=options.layers) as options.base:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    device = pick_device()
    data = InstructionDataModule(DataSettings(source=options.source, seq_len=options.seq_len), options.base)
    data.setup()
    batch = collate_rows(data.train_documents, data.train_rows[: options.rows]).to(device)
    print(f"{len(batch.input_ids[0]):,} tokens, {len(batch.target_index):,} of them targets; on {device}")
    print("| products | seed | all | 1 - cosine | of A | of B | most | loss's |\n|" + " --- |" * 8)
    kinds = ["plain bf16", "bf16", "fp8_backward", "fp8"]
    kinds += [f"fp8_backward{EXACT}", f"fp8{EXACT}"] if has_triton(device) else []
    for seed in options.seeds:
        exact, loss = gradient(options.base, batch, "fp32", seed)
        for kind in kinds:
            found, loss_of_kind = gradient(options.base, batch, kind, seed)
            parts = [distance(found, exact, part) for part in ("", "lora_A", "lora_B")]
            most = max(distance(found, exact, name) for name in exact)
            one, other = flat(found), flat(exact)
            angle = 1 - (one @ other / one.norm() / other.norm()).item()
            cells = [f"{parts[0]:.4f}", f"{angle:.2e}", f"{parts[1]:.4f}", f"{parts[2]:.4f}", f"{most:.4f}"]
            print(f"| {kind} | {seed} | {' | '.join(cells)} | {abs(loss_of_kind - loss) / loss:.1e} |", flush=True)


def gradient(base: str, batch: MicroBatch, kind: str, seed: int) -> tuple[Gradient, float]:
    """(of a mean target's loss, that loss). kind: fp32, or how a fused layer takes the base's products."""
    device, in_fp32, is_plain = batch.input_ids.device, kind == "fp32", kind in ("fp32", "plain bf16")
    dtype = torch.float32 if in_fp32 else torch.bfloat16
    torch.manual_seed(seed)
    model = attach_lora(load_base(base, device, "nf4", "sdpa", dtype), LoraSettings(r=64, dropout=0.0), base)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=B_SPREAD)
    network = Network(model).train()
    if not is_plain:
        numbers, _ = choose_layers(network.layers, "fused", on_gpu=device.type == "cuda", triton=has_triton(device))
        kernel = rows_by_sdpa(BACKENDS["sdpa"].packed)
        fuse_layers(network.layers, numbers, 0, kernel, BaseGemm(kind.removesuffix(EXACT)))
    if has_triton(device):
        from revinst.model.fused import kernels

        kernels.FAST_SUMS = not kind.endswith(EXACT)
    with torch.autocast(device.type, torch.bfloat16, enabled=not in_fp32):
        loss = network.token_nll(batch).mean()
    loss.backward()
    found = {name: p.grad.double().cpu() for name, p in model.named_parameters() if p.grad is not None}
    del model, network
    gc.collect()
    return found, loss.item()


def distance(found: Gradient, exact: Gradient, part: str) -> float:
    """Of the tensors whose names have `part`."""
    one, other = flat(found, part), flat(exact, part)
    return ((one - other).norm() / other.norm()).item()


def flat(of: Gradient, part: str = "") -> Tensor:
    return torch.cat([value.flatten() for name, value in of.items() if part in name])


if __name__ == "__main__":
    main()
