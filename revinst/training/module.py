"""InstructionModule: `training_step` is the training loop."""

import gc
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.distributed import ReduceOp
from torch.nn.parallel import DistributedDataParallel

from revinst.config.settings import ModelSettings
from revinst.config.words import PRECISIONS
from revinst.data.batch import MicroBatch, StepBatch, full_rows
from revinst.data.datamodule import InstructionDataModule
from revinst.errors import UserError
from revinst.model.adapter import adapter_state, set_adapter_state
from revinst.model.attention_kernels import is_deterministic
from revinst.model.build import build_network
from revinst.model.hardware import DTYPES, Hardware, Machine, check_precision
from revinst.model.memory import advise, is_out_of_memory
from revinst.model.network import Network
from revinst.model.sharding import sync_gradients
from revinst.runs.checkpoints import read_checkpoint
from revinst.training.gradients import average_gradients, clip_grad_norm_
from revinst.training.loss import summed_loss
from revinst.training.metrics import Losses, Means, Sum, add_up, by_name
from revinst.training.optim import build_optimizer, lr_at
from revinst.training.strategies import ShardedStrategy, check_optimizer, is_sharding

T = TypeVar("T")
# Of fp16. torch's GradScaler grows after 2,000 steps; a run of ours has some 300.
FIRST_LOSS_SCALE, GOOD_STEPS_TO_GROW = 2.0**16, 200


class InstructionModule(L.LightningModule):
    """A 4-bit base with a LoRA adapter, trained by one optimizer step per `training_step`."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.settings = settings
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold the adapter alone; its own names are checked strictly
        self.step = 0  # optimizer steps taken or skipped; Lightning's global_step does not count skipped ones
        self.planned_lr = 0.0  # of the next step, when its checkpoint was saved; 0 where that is not known
        self.extra_steps = 0  # that were taken beyond what steps of this size would have needed up to here
        self.bad_steps_in_a_row = 0
        self.loss_scale, self.good_steps = 1.0, 0  # above 1 in fp16 alone; steps since the scale last changed
        self.bad_rows: dict[int, list[str]] = {}  # see `take_bad_rows`
        self.reasons: dict[str, str] = {}
        self.micro_batch_size = 1  # its rows; with the model, by the machine

    network: Network  # these three come with `configure_model`
    hardware: Hardware
    base_gemm: str  # kind of `BaseGemm`

    # ---- the loop ----------------------------------------------------------------------------------------------

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """One optimizer step: count, accumulate, average, clip, check, step, log."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        num_targets = self.step_targets.over_ranks(batch.num_targets).clamp(min=1)  # joined rows may hold none
        while True:  # once; where memory runs out or fp16 overflows the same rows again
            sums = {"loss": torch.zeros((), device=self.device)}
            with self.out_of_memory() as ran_out:
                sums = self.accumulate(batch, num_targets)
            failed = self.max_over_ranks(torch.full_like(sums["loss"], len(ran_out)))
            loss = self.step_sum.over_ranks(sums.pop("loss")) / num_targets
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            average_gradients(parameters, self.trainer)
            norm = clip_grad_norm_(parameters, self.settings.max_grad_norm, self.loss_scale)
            numbers = torch.stack([number.to(loss) for number in (loss, norm, failed, num_targets)])
            mean_loss, grad_norm, out_of_memory, targets = numbers.tolist()  # the step's one wait for the device
            if out_of_memory:
                self.halve_micro_batches(len(batch.rows), ran_out)
            elif self.loss_scale > 1 and math.isfinite(mean_loss) and not math.isfinite(grad_norm):
                self.loss_scale, self.good_steps = self.loss_scale / 2, 0  # fp16 overflowed
            else:
                break
            optimizer.zero_grad()

        lr = self.lr_at(self.step)
        if is_finite := math.isfinite(mean_loss + grad_norm):
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
        optimizer.zero_grad()
        self.log_numbers({"train/loss": mean_loss}, prog_bar=True)
        # Loggers take `step` as their x axis: Lightning's own count is off after a resume and at skipped steps.
        values = {"step": self.step, "train/grad_norm": grad_norm, "train/lr": lr, "train/targets": targets}
        self.log_numbers(values)
        self.log_besides(sums, num_targets)
        self.finish_step(batch, is_finite)

    def accumulate(self, batch: StepBatch, num_targets: Tensor) -> dict[str, Tensor]:
        """Forward and backward of each micro-batch; the sum of their losses, and of what is logged besides."""
        sums: dict[str, Tensor] = {}
        micro_batches = batch.micro_batches(self.micro_batch_size)
        for micro_step, micro_batch in enumerate(micro_batches):
            with self.gradient_sync(micro_step == len(micro_batches) - 1):
                losses = by_name(self.micro_batch_loss(micro_batch))
                # Divided by the targets of the whole step, so the gradient is exact however they are spread over
                # micro-batches and ranks; times the ranks, because these average.
                self.manual_backward(losses["loss"] * (self.loss_scale * self.trainer.world_size / num_targets))
            add_up(sums, losses)
        return sums

    def micro_batch_loss(self, batch: MicroBatch) -> Losses:
        """Summed loss over the supervised tokens of one micro-batch, alone or by name with what is logged besides."""
        return summed_loss(self.network, batch)

    def finish_step(self, batch: StepBatch, is_finite: bool) -> None:
        """Counts the step. One that was not finite was not applied: its rows are named, and many in a row stop."""
        self.bad_steps_in_a_row = 0 if is_finite else self.bad_steps_in_a_row + 1
        if not is_finite:
            ids = [example_id for ids in self.gather_over_ranks(batch.ids) for example_id in ids]
            self.bad_rows[self.step] = ids
            rows = ", ".join(ids[:20]) + (", ..." if len(ids) > 20 else "")
            self.print(f"step {self.step}: loss or gradient is not finite; the step was skipped. Rows: {rows}")
        if self.hardware.dtype == "fp16":
            self.log_numbers({"train/loss_scale": self.loss_scale})
            self.good_steps += is_finite
            if self.good_steps == GOOD_STEPS_TO_GROW:
                self.loss_scale, self.good_steps = self.loss_scale * 2, 0
        self.step += 1
        if self.bad_steps_in_a_row >= self.settings.max_bad_steps:
            raise UserError(
                f"{self.bad_steps_in_a_row} steps in a row were not finite (the last was step {self.step - 1}, from "
                f"row {self.bad_rows[self.step - 1][0]}); lower model.lr or look at those rows"
            )

    def take_bad_rows(self) -> dict[int, list[str]]:
        """step -> ids of its rows, on all ranks; of steps that were skipped since the last call."""
        taken, self.bad_rows = self.bad_rows, {}
        return taken

    @contextmanager
    def out_of_memory(self) -> Iterator[list[str]]:
        """Catches what an allocator raises; the list then holds its message. No rank may raise alone in mid-step: the
        others would wait for it in the next collective.
        """
        ran_out: list[str] = []
        try:
            yield ran_out
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            ran_out.append((str(error).splitlines() or ["memory ran out"])[0][:200])
            if is_sharding(self.trainer.strategy):  # the others wait for this one's layers already
                what = f"{ran_out[0]}; fsdp2 can't take fewer rows in mid-step"
                raise UserError(f"{what}: {advise('fit')}") from error

    def halve_micro_batches(self, rows: int, ran_out: list[str]) -> None:
        """On all ranks, whichever ran out. rows: of this rank's share. Raises UserError for micro-batches of one."""
        before = min(self.micro_batch_size, rows)
        if before == 1:
            where = (ran_out or ["on another rank"])[0]
            raise UserError(f"step {self.step}: memory ran out with one row a forward ({where}); {advise('fit')}")
        self.micro_batch_size = -(-before // 2)
        self.network.forget()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.print(
            f"step {self.step}: memory ran out with {before} rows a forward; goes on with {self.micro_batch_size}, the "
            "same step"
        )

    def transfer_batch_to_device(self, batch: StepBatch, device: torch.device, dataloader_idx: int) -> StepBatch:
        """Lightning copies what is no plain tensor in the other way, and waits for the last step there (2.6.6)."""
        return batch.to(device, non_blocking=True)

    # ---- validation: loss per supervised token -------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self.val_means = Means(self.device)

    def validation_step(self, batch: StepBatch, batch_idx: int) -> None:
        for micro_batch in batch.micro_batches(self.micro_batch_size):
            self.val_means.update(self.micro_batch_loss(micro_batch), micro_batch.num_targets)

    def on_validation_epoch_end(self) -> None:
        for name, mean in self.val_means.compute().items():
            self.log(f"val/{name}", mean, prog_bar=name == "loss")
        self.log_numbers({"step": self.step - 1})  # on the line of the step before

    def log_numbers(self, values: Mapping[str, float], prog_bar: bool = False) -> None:
        """Logs numbers of the host, which stay there: Lightning would copy each to the device, and wait for that."""
        tensors = {name: torch.tensor(float(value)) for name, value in values.items()}
        self.log_dict(tensors, batch_size=1, prog_bar=prog_bar)

    def log_besides(self, sums: Mapping[str, Tensor], num_targets: Tensor) -> None:
        """What the loss hands to the log, a target of all ranks; on the device until a logger asks for it."""
        for name in sorted(sums):
            self.log(f"train/{name}", (self.step_sum.over_ranks(sums[name]) / num_targets).float(), batch_size=1)

    # ---- building --------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        check_precision(self.trainer.strategy.root_device, self.trainer.precision)
        check_optimizer(self.trainer.strategy, self.settings.optimizer)
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            self.trainer.precision_plugin.scaler = None  # type: ignore[attr-defined]  # `training_step` scales
        device = self.trainer.strategy.root_device
        self.step_targets, self.step_sum = Sum(device), Sum(device)

    def configure_model(self) -> None:
        """Loads the base onto this rank's device and attaches a fresh adapter."""
        if hasattr(self, "network"):
            return
        strategy = self.trainer.strategy
        machine = Machine(
            device=strategy.root_device,
            dtype=DTYPES[PRECISIONS[self.trainer.precision]],
            ranks=self.trainer.world_size,
            sharded=is_sharding(strategy),
            deterministic=is_deterministic(),
        )
        rows = data_of(self.trainer).step_rows(machine.ranks) if has_data(self.trainer) else full_rows(1, 1, 2048)
        mesh = strategy.device_mesh["data_parallel"] if isinstance(strategy, ShardedStrategy) else None
        settings = self.settings_to_build()
        self.network, choices = build_network(settings, machine, rows, mesh)
        self.hardware, self.base_gemm = choices.hardware, choices.step.base_gemm
        self.reasons |= choices.reasons
        if settings != self.settings:
            self.reasons["base_gemm"] = f"products of the base in {self.hardware.dtype}: as this run began"
        self.loss_scale = FIRST_LOSS_SCALE if self.hardware.dtype == "fp16" else 1.0
        # all ranks take as many rows as the smallest one can
        self.micro_batch_size = -int(self.max_over_ranks(-choices.division.micro_batch_size))

    def settings_to_build(self) -> ModelSettings:
        """A run that began with the base's products in 16 bits goes on with them, whatever `auto` would be here."""
        if self.settings.base_gemm == "auto" and self.trainer.ckpt_path:
            saved = read_checkpoint(Path(self.trainer.ckpt_path))["revinst"]
            if saved.get("base_gemm", "bf16") == "bf16":
                return replace(self.settings, base_gemm="bf16")
        return self.settings

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer, self.reasons["optimizer"] = build_optimizer(
            self.network.trainable_parameters(),
            self.settings.optimizer,
            self.settings.lr,
            self.settings.betas,
            self.settings.weight_decay,
            self.device,
        )
        return optimizer

    def on_fit_start(self) -> None:
        self.train()
        for choice, reason in self.reasons.items():
            self.print(f"{choice}: {reason}")

    def start_at(self, place: int) -> None:
        """place: of the next step in the data, in steps of this run's size."""
        self.extra_steps = self.step - place
        lr = self.lr_at(self.step)
        if self.planned_lr and not math.isclose(lr, self.planned_lr, rel_tol=0.1):
            self.print(
                f"lr: goes on at {lr:.2g}, where {self.planned_lr:.2g} was planned before its length or lr changed"
            )

    def lr_at(self, step: int) -> float:
        """Of a run whose length is in epochs, by its place in the data: what is left of a schedule stays the same when
        it goes on with steps of another size, whose epochs have another number of them.
        """
        trainer, never = self.trainer, 10**9
        by_steps = trainer.max_steps if trainer.max_steps > 0 else never
        epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else math.inf
        by_epochs = min(trainer.num_training_batches * epochs, never)
        if by_epochs + self.extra_steps < by_steps:
            step, total = step - self.extra_steps, int(by_epochs)
        else:
            total = by_steps
        warmup = math.ceil(self.settings.warmup_frac * total)
        return lr_at(
            step, lr=self.settings.lr, schedule=self.settings.lr_schedule, warmup_steps=warmup, total_steps=total
        )

    # ---- ranks -----------------------------------------------------------------------------------------------------

    def max_over_ranks(self, value: T) -> T | Tensor:
        """Of a number, a list of them or a tensor: itself on one rank, else an fp64 tensor.

        Lightning's `strategy.reduce` begins with a barrier (2.6.6): the host would wait there for the backward, and the
        device then for what the host has still to launch.
        """
        if self.trainer.world_size == 1:
            return value
        device = self.trainer.strategy.root_device  # after a fit the module itself is on the CPU
        tensor = torch.as_tensor(value).to(device, torch.float64, copy=True)
        torch.distributed.all_reduce(tensor, op=ReduceOp.MAX)
        return tensor

    def gather_over_ranks(self, value: T) -> list[T]:
        """What each rank has, on every rank."""
        values = [value] * self.trainer.world_size
        if self.trainer.world_size > 1:
            torch.distributed.all_gather_object(values, value)
        return values

    def gradient_sync(self, enabled: bool) -> AbstractContextManager:
        """Gradients cross ranks once a step: FSDP2's in the last backward, DDP's after it (`average_gradients`)."""
        replica = self.trainer.strategy.model
        if sync_gradients(self.network.decoder, enabled) or not isinstance(replica, DistributedDataParallel):
            return nullcontext()
        return replica.no_sync()

    # ---- checkpoints: the adapter alone ----------------------------------------------------------------------------

    def state_dict(self, *args: object, **kwargs: object) -> dict[str, Tensor]:
        return adapter_state(self.network.adapted)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> None:
        set_adapter_state(self.network.adapted, dict(state_dict), "checkpoint")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["revinst"] = {
            "step": self.step,
            "bad_steps_in_a_row": self.bad_steps_in_a_row,
            "precision": self.hardware.dtype,
            "base_gemm": self.base_gemm,
            "lr": self.lr_at(self.step),  # of the next step, as long as it is planned
            "loss_scale": self.loss_scale,
            "good_steps": self.good_steps,
            "micro_batch_size": self.micro_batch_size,
            "micro_batch_of": self.micro_batch_key(),
        }

    def micro_batch_key(self) -> str:
        """What the size was decided by; as long as that is the same, a resumed run keeps it."""
        asked = data_of(self.trainer).settings.micro_batch_size if has_data(self.trainer) else None
        return f"{asked} rows, {self.hardware.device_name}, {self.trainer.world_size} ranks"

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checkpoints made before a key existed were of bf16."""
        saved = checkpoint["revinst"]
        self.step, self.bad_steps_in_a_row = saved["step"], saved.get("bad_steps_in_a_row", 0)
        if saved.get("micro_batch_of") == self.micro_batch_key():
            self.micro_batch_size = saved.get("micro_batch_size", self.micro_batch_size)
        self.planned_lr = saved.get("lr", 0.0)
        precision = saved.get("precision", self.hardware.dtype)
        if precision != self.hardware.dtype:
            self.print(f"precision: goes on in {self.hardware.dtype}; until step {self.step} it was {precision}")
        elif precision == "fp16":
            self.loss_scale = saved.get("loss_scale", self.loss_scale)
            self.good_steps = saved.get("good_steps", 0)
        base_gemm = saved.get("base_gemm", self.base_gemm)
        if base_gemm != self.base_gemm:
            self.print(f"base_gemm: goes on with {self.base_gemm}; until step {self.step} it was {base_gemm}")


def has_data(trainer: L.Trainer) -> bool:
    """Not where the Trainer was given loaders alone."""
    return getattr(trainer, "datamodule", None) is not None


def data_of(trainer: L.Trainer) -> InstructionDataModule:
    """What it was given to train on."""
    return trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it, and declares none
