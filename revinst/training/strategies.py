"""Lightning strategies that the loop trains right under: DDP, and FSDP2 with decoder layers shared out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy, StrategyRegistry
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from revinst.config.trainer_flags import name_of
from revinst.errors import UserError
from revinst.model.sharding import gather_whole, take_share


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

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: object = None) -> None:
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def optimizer_state(self, optimizer: Optimizer | LightningOptimizer) -> dict[str, Any]:
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


def check_optimizer(strategy: object, name: str) -> None:
    """bitsandbytes' kernels take no sharded tensors (0.50.2: "does not have a sharding strategy registered")."""
    if isinstance(strategy, ShardedStrategy) and name.startswith("paged"):
        raise UserError(
            f"model.optimizer {name}: bitsandbytes takes no sharded tensors; under fsdp2 use model.optimizer: adamw, "
            "whose state is sharded with the weights"
        )


def is_sharding(strategy: object) -> bool:
    """strategy: as in `name_of`, or the object itself."""
    return isinstance(strategy, ShardedStrategy) or name_of(strategy).rpartition(".")[2] in ("fsdp2", "ShardedStrategy")
