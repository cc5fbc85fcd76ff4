"""Takes one optimizer step and saves the gradient before clipping. Run by test_gradient_factoring.py, once a rank.

usage: step_gradient.py BASE OUT.pt MICRO_BATCH_SIZE MICRO_BATCHES [RANK WORLD_SIZE PORT]    (of one rank)
"""

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> None:
    base, out, size, count, *ranks = sys.argv[1:]
    options: dict = {}
    if ranks:
        rank, world_size, port = ranks
        os.environ |= {"NODE_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        options = {"devices": 1, "num_nodes": int(world_size), "strategy": "ddp"}
    from tests.tiny import build_data, build_module, build_trainer

    torch.set_num_threads(1)
    save_gradient(
        build_module(Path(base)),
        build_data(
            Path(base), rows_per_step=int(size) * int(count) * options.get("num_nodes", 1), micro_batch_size=int(size)
        ),
        build_trainer(Path(out).parent, **options),
        Path(out),
    )


def save_gradient(module, data, trainer, out: Path) -> None:
    """Fits one step; `out` gets {name: gradient} and the number of gradient exchanges."""
    import revinst.training.module as loop

    clip, recorded = loop.clip_grad_norm_, {}

    def record(parameters, max_norm, loss_scale):
        recorded.update({n: p.grad.clone() for n, p in module.network.model.named_parameters() if p.requires_grad})
        return clip(parameters, max_norm, loss_scale)

    configure = module.configure_model

    def configure_model():
        torch.manual_seed(1)  # the same fresh adapter, whatever was drawn before
        configure()

    module.configure_model = configure_model
    loop.clip_grad_norm_ = record
    try:
        trainer.fit(module, datamodule=data)
    finally:
        loop.clip_grad_norm_ = clip
    if trainer.global_rank == 0:
        targets = trainer.callback_metrics["train/targets"]
        torch.save(
            {"gradient": recorded, "targets": float(targets), "loss": trainer.callback_metrics["train/loss"]}, out
        )


if __name__ == "__main__":
    main()
