"""FSDP2: each rank holds a share of every decoder layer, packed 4-bit weights and adapter alike (strategy `fsdp2`).

A layer is put together just before its forward and its backward and let go after. Embeddings, norms, the head and the
statistics of the quantisation stay whole on each rank. Packed weights travel as the bytes that they are: no
cast may touch them, so the mixed-precision policy is empty and autocast chooses dtypes, as it does on one GPU.
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy, StrategyRegistry
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from revinst.errors import UserError


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, with all ranks in one group, and checkpoints as on one device.

    Lightning would write a folder with a file a rank, or gather optimizer state under names that our adapter-only
    `state_dict` does not have (lightning 2.6.6, `strategies/model_parallel.py`). Here every rank gathers whole tensors
    and the first one writes them through the checkpoint writer of any run, so a run goes on with any number of ranks,
    sharded or not.
    """

    strategy_name = "fsdp2"

    def __init__(self, process_group_backend: str | None = None):
        super().__init__("auto", 1, save_distributed_checkpoint=False, process_group_backend=process_group_backend)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        Strategy.load_model_state_dict(self, checkpoint, strict)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Whole tensors, on every rank."""
        inner = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        return tree_map(gather_whole, inner.state_dict())

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            shares = {
                number: {name: take_share(value, parameters[number]) for name, value in values.items()}
                for number, values in state["state"].items()
            }
            optimizer.load_state_dict(state | {"state": shares})


StrategyRegistry.register(
    "fsdp2", ShardedStrategy, "FSDP2: decoder layers and optimizer state sharded over all ranks", override=True
)


def shard_layers(model: Any, strategy: Any) -> str:
    """Shards the decoder layers over the ranks of a ShardedStrategy, else does nothing. Returns a sentence on it.

    Ranks must have loaded the same base; adapters are taken from the first rank, since fully_shard broadcasts nothing.
    """
    if not isinstance(strategy, ShardedStrategy):
        return ""
    # Nothing writes into a layer's output, so it may be a view of what a fused layer returns.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    decoder = model.get_base_model().get_decoder()
    mesh = strategy.device_mesh["data_parallel"]
    with shares_of_bytes():
        for layer in decoder.layers:
            layer.to(strategy.root_device)
            prepare_layer(layer)
            fully_shard(layer, mesh=mesh, ignored_params={norm for norm in layer.parameters() if norm.dim() == 1})
    whole = {parameter for parameter in decoder.parameters() if not isinstance(parameter, DTensor)}
    fully_shard(decoder, mesh=mesh, ignored_params=whole)  # the root, which orders the layers' gathers
    model.to(strategy.root_device)
    return f"{len(decoder.layers)} layers over {mesh.size()} ranks; embeddings and head are whole on each"


def prepare_layer(layer: Any) -> None:
    for module in layer.modules():
        if hasattr(module, "quant_state"):  # sharding keeps plain tensors; Linear4bit finds its statistics here
            module.quant_state = module.weight.quant_state
    for parameter in layer.parameters():
        if parameter.requires_grad:
            torch.distributed.broadcast(parameter.data, src=0)


TAKES_NO_BYTES = torch.__version__ < "2.12"


@contextmanager
def shares_of_bytes() -> Iterator[None]:
    """Lets torch 2.11's `fully_shard` take packed weights; from 2.12 on it does so by itself.

    2.11 makes each share a parameter that wants a gradient and takes that back a line later
    (`_fsdp_param.py`, `_init_sharded_param`), which is an error for bytes. Inside this context that one file sees an
    `nn.Parameter` that wants a gradient only where it is asked to or the data can have one. What 2.11 makes after that
    follows the share.
    """
    if not TAKES_NO_BYTES:
        yield
        return
    from torch.distributed.fsdp._fully_shard import _fsdp_param

    def parameter(data: Tensor, requires_grad: bool | None = None) -> torch.nn.Parameter:
        return torch.nn.Parameter(data, data.is_floating_point() if requires_grad is None else requires_grad)

    names: Any = _fsdp_param
    names.nn = SimpleNamespace(**vars(torch.nn) | {"Parameter": parameter})
    try:
        yield
    finally:
        names.nn = torch.nn


def sync_gradients(decoder: Any, enabled: bool) -> bool:
    """Switches the reduce-scatter of the next backward on or off. False: this is no sharded model."""
    if not isinstance(decoder, FSDPModule):
        return False
    decoder.set_requires_gradient_sync(enabled)
    return True


BUCKET = 1 << 24  # gradients that cross ranks together: 64 MiB in fp32


def average_gradients(parameters: Iterable[torch.nn.Parameter], strategy: Any) -> None:
    """Over all ranks, after the last backward of a step; FSDP2 has done it in that backward.

    DDP would do it there too, and a rank that ran out of memory in it would leave the others waiting for ever.
    """
    if strategy.world_size == 1 or isinstance(strategy, ShardedStrategy):
        return
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
        views = [grad.view(-1) for grad in bucket]
        flat = torch.cat(views)
        torch.distributed.all_reduce(flat)
        torch._foreach_copy_(views, list((flat / strategy.world_size).split([view.numel() for view in views])))


def buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive ones, until they hold `BUCKET` elements."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(t.numel() for t in bucket) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float, loss_scale: float = 1.0) -> Tensor:
    """torch's, with the norm over all shares as an ordinary tensor. loss_scale: is taken out of the gradients first."""
    parameters = list(parameters)
    if loss_scale != 1.0:
        torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], 1 / loss_scale)
    return gather_whole(torch.nn.utils.clip_grad_norm_(parameters, max_norm))


def check_optimizer(strategy: Any, name: str) -> None:
    """bitsandbytes' kernels take no sharded tensors (0.50.2: "does not have a sharding strategy registered")."""
    if isinstance(strategy, ShardedStrategy) and name.startswith("paged"):
        raise UserError(
            f"model.optimizer {name}: bitsandbytes takes no sharded tensors; under fsdp2 use model.optimizer: adamw, "
            "whose state is sharded with the weights"
        )


STRATEGIES = re.compile(
    r"auto|ddp(_find_unused_parameters_(true|false))?|fsdp2|(.*\.)?(DDP|Sharded|SingleDevice)Strategy"
)

REFUSED_STRATEGIES = {
    "deepspeed": "its engine owns accumulation and clipping, and ZeRO-3 does not shard 4-bit weights; use ddp, or "
    "fsdp2 to shard the base",
    "fsdp": "FSDP1 needs all weights of a layer in one dtype; use fsdp2",
    "modelparallel": "it does not know how to shard a 4-bit base; use fsdp2",
}


def check_strategy(strategy: Any) -> None:
    """Refuses what the loop does not train right under. strategy: a name, or a class path in a config."""
    name = name_of(strategy)
    plain = name.rpartition(".")[2].lower().removesuffix("strategy")
    if STRATEGIES.fullmatch(name):
        return
    given = [reason for refused, reason in REFUSED_STRATEGIES.items() if re.fullmatch(rf"{refused}(_.*)?", plain)]
    raise UserError(f"trainer.strategy {name}: {(given or ['choose from auto, ddp and fsdp2'])[0]}")


def name_of(strategy: Any) -> str:
    """Of a strategy as a config spells it: a name, or a mapping with a class path."""
    if isinstance(strategy, Mapping):
        return str(strategy.get("class_path"))
    return strategy if isinstance(strategy, str) else str(getattr(strategy, "class_path", type(strategy).__name__))


def is_sharding(strategy: Any) -> bool:
    """strategy: as in `check_strategy`, or the object itself."""
    return isinstance(strategy, ShardedStrategy) or name_of(strategy).rpartition(".")[2] in ("fsdp2", "ShardedStrategy")


def gather_whole(value: Any) -> Any:
    """A sharded tensor as a whole one, on every rank; anything else as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def is_sharded(model: Any) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def take_share(value: Any, like: Tensor) -> Any:
    """This rank's share of a whole tensor, laid out as `like` is; where shapes differ, the value as it is."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
