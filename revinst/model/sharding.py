"""FSDP2: each rank holds a share of every decoder layer, packed 4-bit weights and adapter alike (strategy `fsdp2`).

A layer is put together just before its forward and its backward and let go after. Embeddings, norms, the head and the
statistics of the quantisation stay whole on each rank. Packed weights travel as the bytes that they are: no
cast may touch them, so the mixed-precision policy is empty and autocast chooses dtypes, as it does on one GPU.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from revinst.model.network import Network

if TYPE_CHECKING:
    from bitsandbytes.nn import Linear4bit, Params4bit

T = TypeVar("T")


def shard_layers(network: Network, mesh: DeviceMesh, device: torch.device) -> str:
    """Shards the decoder layers over the ranks of a mesh. Returns a sentence on it. device: this rank's.

    Ranks must have loaded the same base; adapters are taken from the first rank, since fully_shard broadcasts nothing.
    """
    # Nothing writes into a layer's output, so it may be a view of what a fused layer returns.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    decoder = network.decoder
    with shares_of_bytes():
        for layer in network.layers:
            layer.to(device)
            prepare_layer(layer)
            fully_shard(layer, mesh=mesh, ignored_params={norm for norm in layer.parameters() if norm.dim() == 1})
    whole = {parameter for parameter in decoder.parameters() if not isinstance(parameter, DTensor)}
    fully_shard(decoder, mesh=mesh, ignored_params=whole)  # the root, which orders the layers' gathers
    network.to(device)
    return f"{len(network.layers)} layers over {mesh.size()} ranks; embeddings and head are whole on each"


def prepare_layer(layer: torch.nn.Module) -> None:
    for module in layer.modules():
        if hasattr(module, "quant_state"):  # sharding keeps plain tensors; Linear4bit finds its statistics here
            packed = cast("Linear4bit", module)
            packed.quant_state = cast("Params4bit", packed.weight).quant_state
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

    names = vars(_fsdp_param)
    names["nn"] = SimpleNamespace(**vars(torch.nn) | {"Parameter": parameter})
    try:
        yield
    finally:
        names["nn"] = torch.nn


def sync_gradients(decoder: torch.nn.Module, enabled: bool) -> bool:
    """Switches the reduce-scatter of the next backward on or off. False: this is no sharded model."""
    if not isinstance(decoder, FSDPModule):
        return False
    decoder.set_requires_gradient_sync(enabled)
    return True


def gather_whole(value: T) -> T:
    """A sharded tensor as a whole one, on every rank; anything else as it is."""
    return cast(T, value.full_tensor()) if isinstance(value, DTensor) else value


def is_sharded(model: torch.nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def take_share(value: T, like: Tensor) -> T:
    """This rank's share of a whole tensor, sharded as `like` is; where shapes differ, the value as it is."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    share = distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return cast(T, share)
