"""Steps, memory, disk and time of a config before any weights are loaded; builds no Trainer."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from jsonargparse import Namespace

from revinst.config.settings import Config
from revinst.config.trainer_flags import precision_name
from revinst.config.words import PRECISIONS
from revinst.data.datamodule import InstructionDataModule
from revinst.errors import UserError
from revinst.model.build import Choices, build_empty, choose
from revinst.model.hardware import DTYPES, Machine, available_bytes, device_of
from revinst.model.memory import GIB, checkpoint_gib, describe, load_gib
from revinst.model.mergeable import check_mergeable
from revinst.model.micro_batch import StepSetup, divide_step
from revinst.model.proof import choose_proved
from revinst.planning.speed import predict_speed
from revinst.progress import in_words
from revinst.training.strategies import is_sharding

CARDS_GB = (8, 12, 16, 24, 48, 80, 141)
LONG_S = 2 * 3600  # from here on a line says what takes less
LESS = {
    "cpu": "a GPU, a smaller model.base or fewer steps (trainer.max_steps) take less",
    "cuda": "more GPUs (trainer.devices) or fewer steps (trainer.max_steps) take less",
}
USABLE_GIB_A_GB = 0.92  # a "24 GB" card has 22.1 to 23.7 GiB for us: the driver, CUDA's context and NCCL take theirs


def read_machine(trainer: Namespace, device: str | None) -> Machine:
    """What a config's Trainer would train on. device: cuda, cpu or None for this machine's; several are GPUs."""
    ranks = count_devices(trainer.devices) * (trainer.num_nodes or 1)
    has_gpu = torch.cuda.is_available() or trainer.accelerator in ("gpu", "cuda") or ranks > 1
    on_gpu = device == "cuda" if device else has_gpu and trainer.accelerator != "cpu"
    here = device_of("cuda" if on_gpu else device or trainer.accelerator)
    is_here = (here.type == "cuda") == on_gpu
    return Machine(
        device=here if is_here else torch.device("cuda"),
        dtype=DTYPES[PRECISIONS[precision_name(trainer.precision)]] if trainer.precision else None,
        ranks=ranks,
        sharded=is_sharding(trainer.strategy),
        deterministic=trainer.deterministic is True,
        is_here=is_here,
    )


def count_devices(devices: object) -> int:
    """Of Lightning's spellings: 8, "8", "0,1", [0, 1]; auto and -1 are this machine's. Raises UserError for none."""
    if str(devices) in ("0", "[]", ""):
        raise UserError(f"trainer.devices {devices}: one at least, or auto")
    if isinstance(devices, list):
        return len(devices)
    if "," in str(devices):
        return len(str(devices).strip(",").split(","))
    if str(devices).isdigit():
        return int(str(devices))
    return max(1, torch.cuda.device_count())


def build_plan(
    config: Config, data: InstructionDataModule, machine: Machine, memory_gib: float | None = None
) -> dict[str, Any]:
    """JSON. memory_gib: of the device; None: this machine's, where it has such a device."""
    available_gib = available_bytes(machine.device) / GIB if memory_gib is None and machine.is_here else memory_gib
    model = build_empty(config.model.base, config.model.lora, config.model.quantization)
    check_mergeable(model, config.model)
    hardware = choose_proved(config.model.base, machine, config.model.attention, config.model.quantization)
    choices = choose(model, config.model, machine, hardware, data.step_rows(machine.ranks), available_gib)
    shape, step, division = choices.shape, choices.step, choices.division
    speed, source = predict_speed(shape, division.recomputed, step)
    steps = count_steps(config.trainer, data.steps_per_epoch)
    documents = data.train_documents
    total_tokens = round(steps / data.steps_per_epoch * data.epoch_tokens)
    supervised = documents.num_targets / max(len(documents.input_ids), 1)
    checkpoint = checkpoint_gib(shape, config.model.optimizer)
    kept = config.checkpoint.keep_last + config.checkpoint.keep_best + 1  # and the one that is being written
    load = load_gib(shape, hardware.quantization, DTYPES[hardware.dtype].itemsize)
    fits = available_gib is None or max(division.memory.needed, load) <= available_gib
    return {
        "device": machine.device.type if hardware.on_gpu else "cpu",
        "devices": machine.ranks,
        "sharded": machine.sharded,
        "steps": steps,
        "steps_per_epoch": data.steps_per_epoch,
        "tokens": total_tokens,
        "supervised_tokens": round(total_tokens * supervised),
        "memory_gib": describe(division.memory),
        "load_gib": round(load, 2),
        "micro_batch_size": division.micro_batch_size,
        "recomputed_layers": [division.recomputed, shape.layers],
        "device_memory_gib": available_gib and round(available_gib, 1),
        "fits": fits,
        "fits_gpus_of_gb": [size for size in CARDS_GB if fits_in(choices, load, size * USABLE_GIB_A_GB)],
        "change_first": "" if fits or available_gib is None else first_change(choices, available_gib),
        "disk_gib": round(checkpoint * kept + 4 * shape.adapter_parameters / 2**30, 3),
        "checkpoint_gib": round(checkpoint, 3),
        "tokens_per_s": speed and round(speed),
        "seconds": speed and round(total_tokens / speed),
        "hours": speed and round(total_tokens / speed / 3600, 2),
        "speed_from": source,
        "dtype": hardware.dtype,
    }


def list_warnings(plan: dict[str, Any]) -> list[str]:
    """Lines on what will take hours, and on what does not fit."""
    lines = []
    if (plan["seconds"] or 0) >= LONG_S:
        lines.append(f"takes about {in_words(plan['seconds'])}; {LESS[plan['device']]}")
    if not plan["fits"]:
        lines.append(f"does not fit in {plan['device_memory_gib']} GiB; change first: {plan['change_first']}")
    return lines


def count_steps(trainer: Namespace, steps_per_epoch: int) -> int:
    """Optimizer steps of a whole run; without a limit Lightning stops after 1,000 epochs."""
    limits = [steps_per_epoch * trainer.max_epochs] if (trainer.max_epochs or 0) > 0 else []
    limits += [trainer.max_steps] if (trainer.max_steps or 0) > 0 else []
    return min(limits) if limits else 1000 * steps_per_epoch


def fits_in(choices: Choices, load_gib: float, available_gib: float) -> bool:
    """Whether a card of another size would do, with the rows that are best there."""
    needed = divide_step(choices.shape, choices.step, available_gib).memory.needed
    return max(needed, load_gib) <= available_gib


def first_change(choices: Choices, available_gib: float) -> str:
    """The mildest change that makes it fit: the same steps first, then another model."""
    for change, step in milder_steps(choices.step):
        if divide_step(choices.shape, step, available_gib).memory.needed <= available_gib:
            return change
    return "a smaller data.seq_len, model.lora.r or model.base: micro-batches of one row do not fit either"


def milder_steps(step: StepSetup) -> Iterator[tuple[str, StepSetup]]:
    """(change of the config, step after it)."""
    least = replace(step, settings=replace(step.settings, activation_memory_gib=0))
    by_auto = replace(step.rows, micro_batch_size="auto")
    if step.settings.activation_memory_gib != 0:
        yield "model.activation_memory_gib: 0 (every layer recomputes)", least
    if step.rows.micro_batch_size != "auto":
        yield "data.micro_batch_size: auto (the same steps)", replace(step, rows=by_auto)
        both = "data.micro_batch_size: auto, model.activation_memory_gib: 0 (the same steps)"
        yield both, replace(least, rows=by_auto)
    if step.hardware.quantization == "none":
        hardware, rows = replace(step.hardware, quantization="nf4"), replace(step.rows, micro_batch_size=1)
        yield "model.quantization: nf4", replace(least, hardware=hardware, rows=rows)
