"""Trains the same steps as one process, as FSDP2 of one rank and as DDP of two ranks; compares them.

    python scripts/check_ranks.py --base FOLDER            # on one GPU, which two ranks share over gloo
    python scripts/check_ranks.py --base FOLDER --accelerator cpu

Twice: in fp32 with plain layers, where all must be equal but for the order of sums, and in bf16 with what `auto`
chooses, where rounding also differs. Exit code 1 when a bound is passed. NCCL refuses two ranks on one GPU, so they use
gloo; on the CPU also FSDP2 of two ranks, whose collectives gloo has there.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

JOBS = {"one": ("auto", 1), "fsdp2 of 1": ("fsdp2", 1), "ddp of 2": ("ddp", 2), "fsdp2 of 2": ("fsdp2", 2)}
MODES: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "32-true", "kernels": "plain", "attention": "sdpa", "bound": 1e-4},
    "bf16": {"precision": "bf16-mixed", "kernels": "auto", "attention": "auto", "bound": 5e-2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="a model folder")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--source", default="quickstart")
    parser.add_argument("--rows", type=int, default=4, help="of a step, even")
    parser.add_argument("--seq_len", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--worker", nargs=4, metavar=("MODE", "JOB", "RANK", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        mode, job, rank, out = options.worker
        train(options, mode, job, int(rank), Path(out))
        return
    on_cpu = options.accelerator == "cpu" or not torch.cuda.is_available()
    jobs = [job for job in JOBS if on_cpu or job != "fsdp2 of 2"]
    failed = False
    for mode in MODES:
        with tempfile.TemporaryDirectory() as folder:
            found = {job: run(options, mode, job, Path(folder) / job.replace(" ", "-")) for job in jobs}
        for job, seen in found.items():
            report = compare(seen, found["one"])
            is_bad = max(report["gradient"], report["loss"]) > MODES[mode]["bound"] or not report["packed_equal"]
            failed |= is_bad
            print(json.dumps({"mode": mode, "job": job, "ok": not is_bad} | report))
    sys.exit(failed)


def run(options: argparse.Namespace, mode: str, job: str, out: Path) -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TOKENIZERS_PARALLELISM": "true"}
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--worker", mode, job, str(rank), str(out)],
            env=environment | {"NODE_RANK": str(rank)},
            stdout=sys.stderr,
        )
        for rank in range(JOBS[job][1])
    ]
    if any([rank.wait() for rank in ranks]):
        sys.exit(f"{mode}, {job}: a rank failed")
    return torch.load(out, weights_only=True)


def train(options: argparse.Namespace, mode: str, job: str, rank: int, out: Path) -> None:
    import lightning as L
    from lightning.pytorch.strategies import DDPStrategy

    import revinst.training.module as loop
    from revinst.data.datamodule import InstructionDataModule
    from revinst.model.lora import LoraSettings, gather_whole
    from revinst.training.sharding import ShardedStrategy

    strategy, world_size = JOBS[job]
    numerics = MODES[mode]
    torch.backends.cuda.matmul.allow_tf32 = False
    strategies: dict[str, Any] = {"auto": "auto", "ddp": DDPStrategy(process_group_backend="gloo")}
    strategies["fsdp2"] = ShardedStrategy(process_group_backend="gloo" if world_size > 1 else None)
    L.seed_everything(42)
    module = loop.InstructionModule(
        base=options.base,
        kernels=numerics["kernels"],
        attention=numerics["attention"],
        lora=LoraSettings(r=16, alpha=32, dropout=0.0),
        optimizer="adamw",
        lr=1e-4,
    )
    data = InstructionDataModule(
        base=options.base,
        source=options.source,
        seq_len=options.seq_len,
        micro_batch_size=options.rows // 2 // world_size,
        micro_batches_per_step=2,
    )
    seen: dict[str, Any] = {"losses": [], "times": []}
    clip, finish = loop.clip_grad_norm_, module.finish_step

    def record(parameters: Any, max_norm: float) -> torch.Tensor:
        if "gradient" not in seen:
            trained = {name: p.grad for name, p in module.model.named_parameters() if p.requires_grad}
            seen["gradient"] = {name: gather_whole(grad).detach().cpu().clone() for name, grad in trained.items()}
        return clip(parameters, max_norm)

    def finish_step(batch: Any, is_finite: bool) -> None:
        seen["losses"].append(float(module.trainer.callback_metrics["train/loss"]))
        seen["times"].append(time.perf_counter())
        finish(batch, is_finite)

    loop.clip_grad_norm_, module.finish_step = record, finish_step  # type: ignore[method-assign]
    trainer = L.Trainer(
        max_steps=options.steps,
        max_epochs=-1,
        accelerator=options.accelerator,
        devices=1,
        num_nodes=world_size,
        strategy=strategies[strategy],
        precision=numerics["precision"],
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    packed = {name: gather_whole(p) for name, p in module.model.named_parameters() if p.dtype == torch.uint8}
    seen["packed"] = {name: int(p.detach().cpu().long().mul(torch.arange(p.numel()).view(p.shape) % 251 + 1).sum())
                      for name, p in packed.items()}  # fmt: skip
    on_gpu = module.device.type == "cuda"
    seen["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None
    if rank == 0:
        torch.save(seen, out)


def compare(got: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    names = expected["gradient"].keys()
    flat = [torch.cat([seen["gradient"][name].flatten().double() for name in names]) for seen in (got, expected)]
    losses = [torch.tensor(seen["losses"]) for seen in (got, expected)]
    gaps = torch.tensor(got["times"]).double().diff()
    return {
        "gradient": float((flat[0] - flat[1]).norm() / flat[1].norm()),
        "loss": float(((losses[0] - losses[1]) / losses[1]).abs().max()),
        "losses": [round(loss, 5) for loss in got["losses"]],
        "packed_equal": got["packed"] == expected["packed"] and len(got["packed"]) > 0,
        "step_s": round(float(gaps.median()), 4) if len(gaps) else None,
        "peak_gib": got["peak_gib"] and round(got["peak_gib"], 2),
    }


if __name__ == "__main__":
    main()
