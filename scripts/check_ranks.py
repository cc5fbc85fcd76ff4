"""Trains the same steps as one process, as FSDP2 of one rank and as DDP of two ranks; compares them.

    python scripts/check_ranks.py --base FOLDER            # on one GPU, which all share at the same time
    python scripts/check_ranks.py --base FOLDER --accelerator cpu

Twice: in fp32 with plain layers, where all must be equal but for the order of sums, and in bf16 with what `auto`
chooses, where rounding also differs. Exit code 1 when a bound is passed. NCCL refuses two ranks on one GPU, so they use
gloo; on the CPU also FSDP2 of two ranks, whose collectives gloo has there.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from revinst.options import Parser

JOBS = {"one": ("auto", 1), "fsdp2 of 1": ("fsdp2", 1), "ddp of 2": ("ddp", 2), "fsdp2 of 2": ("fsdp2", 2)}
MODES: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "32-true", "kernels": "plain", "attention": "sdpa", "bound": 1e-4},
    "bf16": {"precision": "bf16-mixed", "kernels": "auto", "attention": "auto", "bound": 5e-2},
}
ROW = "{:6}{:12}{:>11}{:>11}{:>8}{:>10}{:>10}  {}"


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="a model folder")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--source", default="quickstart")
    parser.add_argument("--rows", type=int, default=4, help="of a step, a multiple of 4")
    parser.add_argument("--seq_len", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--worker", nargs=3, metavar=("JOB", "RANK", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        job, rank, out = options.worker
        seen = {mode: train(options, mode, job) for mode in MODES}
        if rank == "0":
            torch.save(seen, out)
        return
    since = time.perf_counter()
    on_cpu = options.accelerator == "cpu" or not torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        found = run([job for job in JOBS if on_cpu or job != "fsdp2 of 2"], Path(folder))
    print(ROW.format("mode", "job", "gradient", "loss", "bytes", "last loss", "peak GiB", ""))
    rows = [(mode, job, compare(seen[mode], found["one"][mode])) for mode in MODES for job, seen in found.items()]
    passed = [print_row(mode, job, report) for mode, job, report in rows]
    print(f"relative distance to `one`: of the first step's gradient, the farthest of {options.steps} losses")
    print(f"{time.perf_counter() - since:.0f} s")
    sys.exit(not all(passed))


def run(jobs: list[str], folder: Path) -> dict[str, dict[str, Any]]:
    """What each job's first rank saw, by mode. All run at the same time; the first that fails ends all."""
    ranks = [(job, rank) for job in jobs for rank in range(JOBS[job][1])]
    ports = {job: str(free_port()) for job in jobs}
    processes = []
    for job, rank in ranks:
        environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": ports[job], "NODE_RANK": str(rank)}
        with (folder / f"{job} {rank}.log").open("wb") as log:
            line = [sys.executable, __file__, *sys.argv[1:], "--worker", job, str(rank), str(folder / job)]
            processes.append(subprocess.Popen(line, env=os.environ | environment, stdout=log, stderr=log))
    try:
        failed = wait_for(processes)
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    if failed is not None:
        job, rank = ranks[failed]
        sys.exit(f"{(folder / f'{job} {rank}.log').read_text()[-4000:]}\n{job}: rank {rank} failed")
    return {job: torch.load(folder / job, weights_only=True) for job in jobs}


def wait_for(processes: list[subprocess.Popen]) -> int | None:
    """The one that failed first; None when all have ended well."""
    while True:
        codes = [process.poll() for process in processes]
        if any(codes):
            return next(number for number, code in enumerate(codes) if code)
        if all(code == 0 for code in codes):
            return None
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def train(options: argparse.Namespace, mode: str, job: str) -> dict[str, Any]:
    """Losses, the first gradient before clipping, sums over the packed bytes, the peak of GPU memory."""
    import lightning as L
    from lightning.pytorch.strategies import DDPStrategy

    import revinst.training.module as loop
    from revinst.config.settings import DataSettings, LoraSettings, ModelSettings
    from revinst.data.datamodule import InstructionDataModule
    from revinst.model.sharding import gather_whole
    from revinst.training.strategies import ShardedStrategy

    strategy, world_size = JOBS[job]
    numerics = MODES[mode]
    torch.backends.cuda.matmul.allow_tf32 = False
    strategies: dict[str, Any] = {"auto": "auto", "ddp": DDPStrategy(process_group_backend="gloo")}
    strategies["fsdp2"] = ShardedStrategy(process_group_backend="gloo" if world_size > 1 else None)
    L.seed_everything(42)
    module = loop.InstructionModule(
        ModelSettings(
            base=options.base,
            kernels=numerics["kernels"],
            attention=numerics["attention"],
            lora=LoraSettings(r=16, alpha=32, dropout=0.0),
            optimizer="adamw",
            lr=1e-4,
        )
    )
    settings = DataSettings(
        source=options.source,
        seq_len=options.seq_len,
        rows_per_step=options.rows,
        micro_batch_size=options.rows // 2 // world_size,
    )
    data = InstructionDataModule(settings, options.base)
    seen: dict[str, Any] = {"losses": []}
    clip, finish = loop.clip_grad_norm_, module.finish_step

    def record(parameters: Any, max_norm: float, loss_scale: float = 1.0) -> torch.Tensor:
        if "gradient" not in seen:
            named = module.network.model.named_parameters()
            trained = {name: p.grad for name, p in named if p.grad is not None}
            seen["gradient"] = {name: gather_whole(grad).detach().cpu().clone() for name, grad in trained.items()}
        return clip(parameters, max_norm, loss_scale)

    def finish_step(batch: Any, is_finite: bool) -> None:
        seen["losses"].append(float(module.trainer.callback_metrics["train/loss"]))
        finish(batch, is_finite)

    loop.clip_grad_norm_, module.finish_step = record, finish_step  # type: ignore[method-assign]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
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
    try:
        trainer.fit(module, datamodule=data)
    finally:
        loop.clip_grad_norm_ = clip
    packed = {name: gather_whole(p) for name, p in module.network.model.named_parameters() if p.dtype == torch.uint8}
    seen["packed"] = {name: int(p.detach().cpu().long().mul(torch.arange(p.numel()).view(p.shape) % 251 + 1).sum())
                      for name, p in packed.items()}  # fmt: skip
    on_gpu = module.device.type == "cuda"
    seen["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None
    return seen


def compare(got: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    names = expected["gradient"].keys()
    flat = [torch.cat([seen["gradient"][name].flatten().double() for name in names]) for seen in (got, expected)]
    losses = [torch.tensor(seen["losses"]) for seen in (got, expected)]
    return {
        "gradient": float((flat[0] - flat[1]).norm() / flat[1].norm()),
        "loss": float(((losses[0] - losses[1]) / losses[1]).abs().max()),
        "packed_equal": got["packed"] == expected["packed"] and len(got["packed"]) > 0,
        "last_loss": got["losses"][-1],
        "peak_gib": got["peak_gib"],
    }


def print_row(mode: str, job: str, report: dict[str, Any]) -> bool:
    """Whether it is within the mode's bound."""
    is_good = max(report["gradient"], report["loss"]) <= MODES[mode]["bound"] and report["packed_equal"]
    distances = (f"{report[name]:.1e}" for name in ("gradient", "loss"))
    peak = "" if report["peak_gib"] is None else f"{report['peak_gib']:.2f}"
    same = "equal" if report["packed_equal"] else "OTHER"
    print(ROW.format(mode, job, *distances, same, f"{report['last_loss']:.5f}", peak, "ok" if is_good else "FAILED"))
    return is_good


if __name__ == "__main__":
    main()
