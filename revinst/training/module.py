"""InstructionModule: `training_step` is the training loop."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.distributed import ReduceOp

from revinst.data.batch import MicroBatch, StepBatch
from revinst.errors import UserError
from revinst.model.attention import KERNELS, rows_by_sdpa
from revinst.model.base import load_base
from revinst.model.fused.support import CHOICES, choose_layers, fuse_layers
from revinst.model.hardware import check_precision, choose_hardware, is_deterministic
from revinst.model.lora import LoraSettings, adapter_state, attach_lora, set_adapter_state
from revinst.model.memory import layer_bytes_per_token, shape_of
from revinst.model.recompute import count_recomputed_layers, recompute_layers
from revinst.training.loss import summed_loss
from revinst.training.optim import LR_SCHEDULES, build_optimizer, check_numbers, lr_at
from revinst.training.sharding import check_optimizer, clip_grad_norm_, shard_layers, sync_gradients


class InstructionModule(L.LightningModule):
    """A 4-bit base with a LoRA adapter, trained by one optimizer step per `training_step`.

    Args:
        base: hub id or folder of the base model.
        quantization: nf4 or none.
        attention: auto, flash, varlen, sdpa or eager.
        kernels: auto, fused or plain; auto fuses decoder layers on CUDA where it can.
        activation_memory_gib: memory for activations that are kept; 0 recomputes every layer; auto takes what is free.
        lora: rank, alpha, dropout and target modules of the adapter.
        optimizer: paged_adamw_32bit, paged_adamw_8bit or adamw.
        weight_decay: decoupled, on adapter weights.
        betas: AdamW's.
        lr: peak learning rate.
        lr_schedule: constant, linear or cosine.
        warmup_frac: share of all steps in which the lr rises.
        max_grad_norm: gradients are scaled down to this norm.
        max_bad_steps: so many steps with a non-finite loss or gradient in a row stop the run.
    """

    def __init__(  # keyword-only: a config names every one
        self,
        *,
        base: str = "NousResearch/Llama-2-7b-hf",
        quantization: str = "nf4",
        attention: str = "auto",
        kernels: str = "auto",
        activation_memory_gib: float | str = 0,
        lora: LoraSettings = LoraSettings(),  # noqa: B008  (frozen)
        optimizer: str = "paged_adamw_32bit",
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        lr: float = 2e-4,
        lr_schedule: str = "constant",
        warmup_frac: float = 0.03,
        max_grad_norm: float = 0.3,
        max_bad_steps: int = 3,
    ):
        super().__init__()
        if lr_schedule not in LR_SCHEDULES:
            raise UserError(f"model.lr_schedule {lr_schedule!r}: choose from {', '.join(LR_SCHEDULES)}")
        check_numbers(
            betas=betas,
            lr=lr,
            weight_decay=weight_decay,
            warmup_frac=warmup_frac,
            max_grad_norm=max_grad_norm,
            max_bad_steps=max_bad_steps,
        )
        if kernels not in CHOICES:
            raise UserError(f"model.kernels {kernels!r}: choose from {', '.join(CHOICES)}")
        self.base, self.quantization, self.attention, self.kernels = base, quantization, attention, kernels
        self.activation_memory_gib, self.lora = activation_memory_gib, lora
        self.optimizer_name, self.weight_decay, self.betas = optimizer, weight_decay, betas
        self.lr, self.lr_schedule, self.warmup_frac = lr, lr_schedule, warmup_frac
        self.max_grad_norm, self.max_bad_steps = max_grad_norm, max_bad_steps
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold the adapter alone; its own names are checked strictly
        self.step = 0  # optimizer steps taken or skipped; Lightning's global_step does not count skipped ones
        self.extra_steps = 0  # that were taken beyond what this number of ranks would have needed up to here
        self.bad_steps_in_a_row = 0
        self.bad_rows: dict[int, list[str]] = {}  # step -> ids of its rows, on all ranks
        self.reasons: dict[str, str] = {}
        self.model: Any = None

    # ---- the loop ----------------------------------------------------------------------------------------------

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """One optimizer step: count, accumulate, clip, check, step, log."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        num_targets = max(self.sum_over_ranks(batch.num_targets), 1)  # joined rows may hold none
        loss_sum = torch.zeros((), device=self.device)
        for micro_step, micro_batch in enumerate(batch.micro_batches):
            is_last = micro_step == len(batch.micro_batches) - 1
            with self.gradient_sync(is_last):
                loss = self.micro_batch_loss(micro_batch)
                # Divided by the targets of the whole step, so the gradient is exact however they are spread over
                # micro-batches and ranks; times the ranks, because DDP averages over them.
                self.manual_backward(loss * (self.trainer.world_size / num_targets))
            loss_sum += loss.detach()

        mean_loss = self.sum_over_ranks(loss_sum) / num_targets
        grad_norm = clip_grad_norm_(self.trainable_parameters(), self.max_grad_norm)
        lr = self.lr_at(self.step)
        if is_finite := bool(torch.isfinite(mean_loss + grad_norm)):  # the step's one wait for the device
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
        optimizer.zero_grad()
        self.log("train/loss", mean_loss, prog_bar=True, batch_size=1)
        # Loggers take `step` as their x axis: Lightning's own count is off after a resume and at skipped steps.
        numbers = {"step": self.step, "train/grad_norm": grad_norm, "train/lr": lr, "train/targets": num_targets}
        self.log_dict({name: float(number) for name, number in numbers.items()}, batch_size=1)
        self.finish_step(batch, is_finite)

    def micro_batch_loss(self, batch: MicroBatch) -> Tensor:
        """Summed loss over the supervised tokens of one micro-batch."""
        hidden = self.decoder(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            cu_seqlens=batch.cu_seqlens,
            seq_lens=batch.seq_lens,
            use_cache=False,
        ).last_hidden_state
        return summed_loss(hidden, self.head, batch.targets, batch.target_index)

    def finish_step(self, batch: StepBatch, is_finite: bool) -> None:
        """Counts the step. One that was not finite was not applied: its rows are named, and many in a row stop."""
        self.bad_steps_in_a_row = 0 if is_finite else self.bad_steps_in_a_row + 1
        if not is_finite:
            ids = [row_id for ids in self.gather_over_ranks(batch.ids) for row_id in ids]
            self.bad_rows[self.step] = ids
            rows = ", ".join(ids[:20]) + (", ..." if len(ids) > 20 else "")
            self.print(f"step {self.step}: loss or gradient is not finite; the step was skipped. Rows: {rows}")
        self.step += 1
        if self.bad_steps_in_a_row >= self.max_bad_steps:
            raise UserError(
                f"{self.max_bad_steps} steps in a row were not finite (the last was step {self.step - 1}, from row "
                f"{self.bad_rows[self.step - 1][0]}); lower model.lr or look at those rows"
            )

    # ---- validation: loss per supervised token -------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self.val_loss_sum = torch.zeros((), dtype=torch.float64 if self.device.type != "mps" else torch.float32)
        self.val_targets = 0

    def validation_step(self, batch: MicroBatch, batch_idx: int) -> None:
        self.val_loss_sum += self.micro_batch_loss(batch).double().cpu()
        self.val_targets += batch.num_targets

    def on_validation_epoch_end(self) -> None:
        num_targets = self.sum_over_ranks(self.val_targets)
        loss = self.sum_over_ranks(self.val_loss_sum.to(self.device)) / max(num_targets, 1)
        self.log("val/loss", loss.float(), prog_bar=True)
        self.log("step", float(self.step - 1))  # on the line of the step before

    # ---- building --------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        check_precision(self.trainer.strategy.root_device, self.trainer.precision)
        check_optimizer(self.trainer.strategy, self.optimizer_name)

    def configure_model(self) -> None:
        """Loads the base onto this rank's device and attaches a fresh adapter."""
        if self.model is not None:
            return
        device = self.trainer.strategy.root_device
        dtype = torch.float32 if self.trainer.precision == "32-true" else torch.bfloat16
        self.hardware = choose_hardware(device, self.attention, dtype, deterministic=is_deterministic())
        self.reasons |= self.hardware.reasons
        base = load_base(self.base, device, self.quantization, self.hardware.attention, dtype)
        self.model = attach_lora(base, self.lora, self.base)
        self.reasons["adapter"] = f"{sum(p.numel() for p in self.trainable_parameters()):,} parameters are trained"
        layers = base.get_decoder().layers
        fused, self.reasons["kernels"] = choose_layers(layers, self.kernels, device)
        layer_bytes = layer_bytes_per_token(shape_of(self.model), self.lora.dropout > 0, fused=bool(fused))
        recomputed = count_recomputed_layers(
            len(layers), self.activation_memory_gib, layer_bytes * self.tokens_per_micro_batch(), device
        )
        recompute_layers(base, [number for number in range(recomputed) if number not in fused])
        kernel = KERNELS[self.hardware.attention]
        kernel = rows_by_sdpa(kernel) if self.attention == "auto" else kernel
        fuse_layers(layers, fused, recomputed, kernel)
        self.reasons["recompute"] = f"{recomputed} of {len(layers)} layers recompute activations"
        if sharded := shard_layers(self.model, self.trainer.strategy):
            self.reasons["sharding"] = sharded
        self.train()  # transformers loads in eval mode, which turns checkpointing and dropout off inside the layers

    def tokens_per_micro_batch(self) -> int:
        data = getattr(self.trainer, "datamodule", None)
        return data.micro_batch_size * data.seq_len if data is not None else 2048

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer, self.reasons["optimizer"] = build_optimizer(
            self.trainable_parameters(),
            self.optimizer_name,
            self.lr,
            self.betas,
            self.weight_decay,
            self.device,
        )
        return optimizer

    def on_fit_start(self) -> None:
        self.train()
        for choice, reason in self.reasons.items():
            self.print(f"{choice}: {reason}")

    def lr_at(self, step: int) -> float:
        """Of a run whose length is in epochs, by its place in the data: what is left of a schedule stays the same when
        it goes on with another number of ranks, whose epochs have other steps.
        """
        trainer, never = self.trainer, 10**9
        by_steps = trainer.max_steps if trainer.max_steps > 0 else never
        epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else math.inf
        by_epochs = min(trainer.num_training_batches * epochs, never)
        if by_epochs + self.extra_steps < by_steps:
            step, total = step - self.extra_steps, int(by_epochs)
        else:
            total = by_steps
        warmup = math.ceil(self.warmup_frac * total)
        return lr_at(step, lr=self.lr, schedule=self.lr_schedule, warmup_steps=warmup, total_steps=total)

    @property
    def decoder(self) -> torch.nn.Module:
        return self.model.get_base_model().get_decoder()

    @property
    def head(self) -> torch.nn.Module:
        return self.model.get_base_model().get_output_embeddings()

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    # ---- ranks -----------------------------------------------------------------------------------------------------

    def sum_over_ranks(self, value: Any) -> Any:
        return self.reduce_over_ranks(value, ReduceOp.SUM)

    def max_over_ranks(self, value: Any) -> Any:
        return self.reduce_over_ranks(value, ReduceOp.MAX)

    def reduce_over_ranks(self, value: Any, operation: Any) -> Any:
        """Of a number, a list of them or a tensor: itself on one rank, else an fp64 tensor.

        Lightning's `strategy.reduce` begins with a barrier (2.6.6): the host would wait there for the backward, and the
        device then for what the host has still to launch.
        """
        if self.trainer.world_size == 1:
            return value
        device = self.trainer.strategy.root_device  # after a fit the module itself is on the CPU
        tensor = torch.as_tensor(value).to(device, torch.float64, copy=True)
        torch.distributed.all_reduce(tensor, op=operation)
        return tensor

    def gather_over_ranks(self, value: Any) -> list[Any]:
        """What each rank has, on every rank."""
        values: list[Any] = [value] * self.trainer.world_size
        if self.trainer.world_size > 1:
            torch.distributed.all_gather_object(values, value)
        return values

    def gradient_sync(self, enabled: bool) -> AbstractContextManager:
        """Gradients cross ranks once a step: on all micro-batches but the last, nothing must be averaged."""
        replica: Any = self.trainer.strategy.model
        is_switched = sync_gradients(self.decoder, enabled)  # FSDP2's; DDP's is a context
        return nullcontext() if enabled or is_switched or not hasattr(replica, "no_sync") else replica.no_sync()

    # ---- checkpoints: the adapter alone ----------------------------------------------------------------------------

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        return adapter_state(self.model)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        set_adapter_state(self.model, dict(state_dict), "checkpoint")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["revinst"] = {"step": self.step, "bad_steps_in_a_row": self.bad_steps_in_a_row}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.step = checkpoint["revinst"]["step"]
        self.bad_steps_in_a_row = checkpoint["revinst"]["bad_steps_in_a_row"]
