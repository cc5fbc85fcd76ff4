"""Trains a few steps and saves what they did. Run by test_ranks.py and test_sharding.py, once a rank.

usage: rank_steps.py BASE OUT.pt [KEY=VALUE ...]     with NODE_RANK and RANKS in the environment; keys of DEFAULTS
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

DEFAULTS: dict[str, Any] = {
    "size": 1,  # rows of a micro-batch
    "count": 1,  # micro-batches of a step
    "steps": 1,  # at the end of training, not more
    "strategy": "ddp",
    "quantization": "none",
    "kernels": "auto",
    "resume": None,  # a checkpoint
    "save": None,  # a checkpoint after the last step
    "validate": False,
    "max_grad_norm": 1e9,
    "r": 4,
}


def main() -> None:
    base, out, *given = sys.argv[1:]
    options = DEFAULTS | {key: parse(value) for key, value in (pair.split("=", 1) for pair in given)}
    torch.set_num_threads(1)
    ranks = int(os.environ.get("RANKS", "1"))
    trainer_options: dict[str, Any] = {"max_steps": options["steps"], "max_epochs": -1}
    if ranks > 1 or options["strategy"] == "fsdp2":
        trainer_options |= {"devices": 1, "num_nodes": ranks, "strategy": options["strategy"]}
    if options["validate"]:
        trainer_options["limit_val_batches"] = 1.0
    train(Path(base), Path(out), options, trainer_options)


def parse(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def train(base: Path, out: Path, options: dict[str, Any], trainer_options: dict[str, Any]) -> None:
    """`out` gets, on the first rank, gradients before clipping, packed weights' hashes, the adapter and the losses."""
    import revinst.training.module as loop
    from revinst.model.lora import LoraSettings, adapter_state, gather_whole
    from tests.tiny import build_data, build_module, build_trainer

    module = build_module(
        base,
        quantization=options["quantization"],
        kernels=options["kernels"],
        max_grad_norm=options["max_grad_norm"],
        lora=LoraSettings(r=options["r"], alpha=8, dropout=0.0),
    )
    data = build_data(base, micro_batch_size=options["size"], micro_batches_per_step=options["count"])
    clip, seen = loop.clip_grad_norm_, {"gradients": [], "norms": [], "losses": [], "dtypes": set()}

    def record(parameters, max_norm):
        parameters = list(parameters)
        named = {name: p for name, p in module.model.named_parameters() if p.requires_grad}
        seen["gradients"].append({name: gather_whole(p.grad).clone() for name, p in named.items()})
        norm = clip(parameters, max_norm)
        seen["norms"].append(float(norm))
        return norm

    configure, finish = module.configure_model, module.finish_step

    def configure_model():
        torch.manual_seed(1)  # the same fresh adapter, whatever was drawn before
        shard, loop.shard_layers = loop.shard_layers, lambda *_: ""
        configure()
        loop.shard_layers = shard
        seen["before"] = hash_packed(module.model)
        shard(module.model, module.trainer.strategy)
        seen["after"] = hash_packed(module.model)
        seen["local"] = sum(local_bytes(p) for p in module.model.parameters())

    def finish_step(batch, is_finite):
        seen["losses"].append(float(module.trainer.callback_metrics["train/loss"]))
        finish(batch, is_finite)

    module.configure_model, module.finish_step, loop.clip_grad_norm_ = configure_model, finish_step, record
    trainer = build_trainer(out.parent, **trainer_options)
    trainer.fit(module, datamodule=data, ckpt_path=options["resume"])
    state = {name: tensor.clone() for name, tensor in adapter_state(module.model).items()}
    seen |= {"end": hash_packed(module.model), "adapter": state, "step": module.step}
    metrics = trainer.callback_metrics
    seen |= {"targets": float(metrics["train/targets"]), "val_loss": float(metrics.get("val/loss", 0))}
    if options["save"]:
        trainer.save_checkpoint(options["save"])
    if trainer.global_rank == 0:
        torch.save(seen, out)


def local_bytes(parameter: torch.nn.Parameter) -> int:
    local = parameter.to_local() if hasattr(parameter, "to_local") else parameter
    return local.numel() * local.element_size()


def hash_packed(model: torch.nn.Module) -> dict[str, str]:
    """SHA-256 of each packed 4-bit weight, whole."""
    from revinst.model.lora import gather_whole

    packed = {name: gather_whole(p) for name, p in model.named_parameters() if p.dtype == torch.uint8}
    return {name: hashlib.sha256(p.detach().cpu().numpy().tobytes()).hexdigest() for name, p in packed.items()}


if __name__ == "__main__":
    main()
