"""Trains a few steps, several times over, and saves what they did. Run by test_ranks.py, once a rank.

usage: rank_steps.py BASE OUT.pt '[{"size": 4}, ...]'     with NODE_RANK and RANKS in the environment; keys of DEFAULTS
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

DEFAULTS: dict[str, Any] = {
    "size": 1,  # rows of a micro-batch
    "rows_per_step": 8,
    "steps": 1,  # at the end of training, not more
    "strategy": "ddp",
    "quantization": "none",
    "kernels": "auto",
    "base_gemm": "bf16",  # others by the reference
    "resume": None,  # a checkpoint
    "save": None,  # a checkpoint after the last step
    "validate": False,
    "samples": False,  # texts written after each step
    "besides": False,  # numbers that the loss hands to the log
    "max_grad_norm": 1e9,
    "rows": None,  # of the training set; None: all
}


def main() -> None:
    base, out, runs = sys.argv[1:]
    torch.set_num_threads(1)
    ranks = int(os.environ["RANKS"])
    seen = [train(Path(base), Path(out).parent, run, ranks) for run in json.loads(runs)]
    if os.environ["NODE_RANK"] == "0":
        torch.save(seen, out)


def train(base: Path, folder: Path, options: dict[str, Any], ranks: int = 1) -> dict[str, Any]:
    """Gradients before clipping, packed weights' hashes, the adapter, losses, and what each document was seen as."""
    from tests.tiny import build_module, build_trainer

    options = DEFAULTS | options
    module = build_module(
        base,
        quantization=options["quantization"],
        kernels=options["kernels"],
        base_gemm=options["base_gemm"],
        max_grad_norm=options["max_grad_norm"],
    )
    data, checkpoint = build_rows(base, options), options["resume"] and folder / options["resume"]
    trainer = build_trainer(folder, **trainer_options(options, ranks))
    seen: dict[str, Any] = {
        name: []
        for name in (
            "gradients",
            "norms",
            "losses",
            "targets",
            "ids",
            "samples",
            "crossed",
            "whole",
            "barriers",
            "waits",
            "doubles",
        )
    }
    watch_module(module, seen, options["strategy"] == "fsdp2")
    if options["besides"]:
        hand_on(module)
    with watch_functions(module, seen), patch("revinst.model.fused.fp8.why_no_fp8", lambda _: ""):
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    describe_end(module, trainer, seen)
    if options["save"]:
        trainer.save_checkpoint(folder / options["save"])
    return seen


def hand_on(module: Any) -> None:
    """The loss once more, doubled, and a number of another type."""
    exact = module.micro_batch_loss

    def micro_batch_loss(batch):
        loss = exact(batch)
        return {"double": 2 * loss, "loss": loss, "count": torch.tensor(batch.num_targets)}

    module.micro_batch_loss = micro_batch_loss


def watch_module(module: Any, seen: dict[str, Any], ranks_differ: bool) -> None:
    """ranks_differ: in their fresh adapters, of which the first rank's must count."""
    configure, finish, backward = module.configure_model, module.finish_step, module.manual_backward

    def configure_model():
        torch.manual_seed(1 + module.global_rank * ranks_differ)
        configure()
        model = module.network.model
        seen["after"], seen["local"] = hash_packed(model), sum(map(local_bytes, model.parameters()))
        seen.setdefault("before", seen["after"])  # nothing was sharded

    def manual_backward(loss):
        """Notes whether the gradient has crossed the ranks: FSDP2 keeps it elsewhere until then."""
        backward(loss)
        grad = [p.grad for p in module.network.model.parameters() if p.requires_grad][-1]
        is_share = hasattr(grad, "to_local")
        norms = [] if grad is None or is_share else module.gather_over_ranks(float(grad.norm()))
        seen["crossed"].append(is_share or len(set(norms)) == 1)

    def finish_step(batch, is_finite):
        metrics = module.trainer.callback_metrics
        seen["losses"].append(float(metrics["train/loss"]))
        seen["targets"].append(int(metrics["train/targets"]))
        if "train/double" in metrics:
            seen["doubles"].append([float(metrics[f"train/{name}"]) for name in ("double", "count")])
        seen["ids"].append(sorted(example_id for ids in module.gather_over_ranks(batch.ids) for example_id in ids))
        finish(batch, is_finite)

    module.configure_model, module.manual_backward, module.finish_step = configure_model, manual_backward, finish_step


@contextmanager
def watch_functions(module: Any, seen: dict[str, Any]) -> Iterator[None]:
    import revinst.training.module as loop
    from revinst.model import build
    from revinst.model.sharding import gather_whole
    from revinst.training import samples
    from tests.waits import Waits

    clip, shard, generate = loop.clip_grad_norm_, build.shard_layers, samples.generate_batches
    step, barrier = module.training_step, torch.distributed.barrier

    def training_step(batch, batch_idx):
        torch.distributed.barrier = lambda *args, **kwargs: seen["barriers"].append(module.step)
        try:
            with Waits() as waits:
                step(batch, batch_idx)
            seen["waits"].append(waits.found)
        finally:
            torch.distributed.barrier = barrier

    def record(parameters, max_norm, loss_scale):
        parameters = list(parameters)
        trained = {name: p for name, p in module.network.model.named_parameters() if p.requires_grad}
        seen["gradients"].append(copy_of({name: gather_whole(p.grad) for name, p in trained.items()}))
        norms = module.gather_over_ranks(sum(float(grad.norm()) for grad in seen["gradients"][-1].values()))
        seen["whole"].append(len(set(norms)) == 1)
        seen["norms"].append(clip(parameters, max_norm, loss_scale))
        return seen["norms"][-1]

    def watch_sharding(network, mesh, device):
        seen["before"] = hash_packed(network.model)
        return shard(network, mesh, device)

    def record_samples(*args, **kwargs):
        made = sorted((number, row.token_ids) for number, row in generate(*args, **kwargs))
        seen["samples"].append(made)
        return [(number, SimpleNamespace(token_ids=ids)) for number, ids in made]

    loop.clip_grad_norm_, build.shard_layers, samples.generate_batches = record, watch_sharding, record_samples
    module.training_step = training_step
    try:
        yield
    finally:
        loop.clip_grad_norm_, build.shard_layers, samples.generate_batches = clip, shard, generate


def describe_end(module: Any, trainer: Any, seen: dict[str, Any]) -> None:
    from revinst.model.adapter import adapter_state

    moments = [tensor for state in trainer.optimizers[0].state.values() for tensor in state.values() if tensor.dim()]
    seen |= {
        "end": hash_packed(module.network.model),
        "adapter": copy_of(adapter_state(module.network.model)),
        "step": module.step,
        "norms": [float(norm) for norm in seen["norms"]],
        "val_loss": float(trainer.callback_metrics.get("val/loss", 0)),
        "val_besides": [float(trainer.callback_metrics.get(f"val/{name}", 0)) for name in ("double", "count")],
        "moments": sum(map(local_bytes, moments)),
    }


def trainer_options(options: dict[str, Any], ranks: int) -> dict[str, Any]:
    from revinst.config.settings import SampleSettings
    from revinst.training.samples import Samples

    chosen: dict[str, Any] = {"max_steps": options["steps"], "max_epochs": -1}
    if ranks > 1 or options["strategy"] == "fsdp2":
        chosen |= {"devices": 1, "num_nodes": ranks, "strategy": options["strategy"]}
    if options["samples"]:
        chosen["callbacks"] = [Samples(SampleSettings(1, 3), max_new_tokens=8)]
    if options["validate"]:
        chosen |= {"limit_val_batches": 1.0, "val_check_interval": 1}
    return chosen


def build_rows(base: Path, options: dict[str, Any]) -> Any:
    from tests.tiny import build_data

    data = build_data(base, seq_len=128, rows_per_step=options["rows_per_step"], micro_batch_size=options["size"])
    data.setup()
    data.train_rows = data.train_rows[: options["rows"]]
    data.sampler.num_rows = len(data.train_rows)
    return data


def copy_of(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def local_bytes(parameter: torch.Tensor) -> int:
    local = parameter.to_local() if hasattr(parameter, "to_local") else parameter
    return local.numel() * local.element_size()


def hash_packed(model: torch.nn.Module) -> dict[str, str]:
    """SHA-256 of each packed 4-bit weight, whole."""
    from revinst.model.sharding import gather_whole

    packed = {name: gather_whole(p) for name, p in model.named_parameters() if p.dtype == torch.uint8}
    return {name: hashlib.sha256(p.detach().cpu().numpy().tobytes()).hexdigest() for name, p in packed.items()}


if __name__ == "__main__":
    main()
