"""Steps, memory, disk and time of a config before any weights are loaded; builds no Trainer."""

from dataclasses import replace
from typing import Any

import torch

from revinst.config.settings import Config
from revinst.data.datamodule import InstructionDataModule
from revinst.errors import UserError
from revinst.model.hardware import (
    DTYPES,
    PRECISIONS,
    choose_dtype,
    choose_quantization,
    device_of,
    room_bytes,
)
from revinst.model.memory import (
    GIB,
    OPTIMIZER_BYTES,
    Shape,
    checkpoint_gib,
    describe,
    load_gib,
)
from revinst.model.micro_batch import Fullest, StepSettings, divide_step
from revinst.model.sharding import is_sharding
from revinst.planning.speed import predict_speed
from revinst.training.trainer import precision_name

CARDS_GB = (8, 12, 16, 24, 48, 80, 141)

USABLE_GIB_A_GB = 0.92  # a "24 GB" card has 22.1 to 23.7 GiB for us: the driver, CUDA's context and NCCL take theirs


def read_settings(
    config: Config, data: InstructionDataModule, shape: Shape, device: str | None
) -> tuple[StepSettings, str]:
    """What decides memory, and the dtype that is computed in."""
    model, trainer = config.model, config.trainer
    devices = count_devices(trainer.devices) * (trainer.num_nodes or 1)
    asked_for_gpu = trainer.accelerator in ("gpu", "cuda") or devices > 1
    on_gpu = (
        device == "cuda" if device else (torch.cuda.is_available() or asked_for_gpu) and trainer.accelerator != "cpu"
    )
    data.check_ranks(devices)
    here = device_of("cuda" if on_gpu else device or trainer.accelerator)
    elsewhere = (here.type == "cuda") != on_gpu  # a plan for a GPU that is not here: a newer one
    chosen = "bf16" if elsewhere else choose_dtype(here)[0]
    dtype = PRECISIONS[precision_name(trainer.precision)] if trainer.precision else chosen
    settings = StepSettings(
        rows=-(-data.settings.rows_per_step // devices),
        micro_batch_size=data.settings.micro_batch_size,
        seq_len=data.settings.seq_len,
        fullest=lambda count: Fullest(*data.fullest(count)),
        quantization=model.quantization if elsewhere else choose_quantization(model.quantization, here)[0],
        optimizer=model.optimizer if model.optimizer in OPTIMIZER_BYTES else "adamw",
        dropout=model.lora.dropout > 0,
        activation_memory_gib=model.activation_memory_gib,
        attention=model.attention,
        fused=on_gpu and model.kernels != "plain" and shape.fusible_layers == shape.layers,
        on_gpu=on_gpu,
        itemsize=DTYPES[dtype].itemsize,
        ranks=devices,
        sharded=is_sharding(trainer.strategy),
    )
    return settings, dtype


def count_devices(devices: Any) -> int:
    """Of Lightning's spellings: 8, "8", "0,1", [0, 1]; auto and -1 are this machine's. Raises UserError for none."""
    if str(devices) in ("0", "[]", ""):
        raise UserError(f"trainer.devices {devices}: one at least, or auto")
    if isinstance(devices, list):
        return len(devices)
    if "," in str(devices):
        return len(str(devices).strip(",").split(","))
    if str(devices).isdigit():
        return int(devices)
    return max(1, torch.cuda.device_count())


def build_plan(
    config: Config, data: InstructionDataModule, shape: Shape, settings: StepSettings, memory_gib: float | None
) -> dict[str, Any]:
    documents, trainer = data.train_documents, config.trainer
    steps_per_epoch = data.steps_per_epoch
    limits = [steps_per_epoch * trainer.max_epochs] if (trainer.max_epochs or 0) > 0 else []
    limits += [trainer.max_steps] if (trainer.max_steps or 0) > 0 else []
    steps = min(limits) if limits else 1000 * steps_per_epoch
    epochs = steps / steps_per_epoch
    room = device_memory_gib(settings.on_gpu) if memory_gib is None else memory_gib
    division = divide_step(shape, settings, room)
    memory, recomputed = division.memory, division.recomputed
    speed, source = predict_speed(shape, recomputed, settings)
    total_tokens = round(epochs * data.epoch_tokens)
    supervised = documents.num_targets / max(len(documents.input_ids), 1)
    checkpoint = checkpoint_gib(shape, settings.optimizer)
    kept = config.checkpoint.keep_last + config.checkpoint.keep_best + 1  # and the one that is being written
    load = load_gib(shape, settings.quantization, settings.itemsize)
    fits = room is None or max(memory.needed, load) <= room
    cards = {size: divide_step(shape, settings, size * USABLE_GIB_A_GB) for size in CARDS_GB}
    return {
        "device": "cuda" if settings.on_gpu else "cpu",
        "devices": settings.ranks,
        "sharded": settings.sharded,
        "steps": steps,
        "steps_per_epoch": steps_per_epoch,
        "tokens": total_tokens,
        "supervised_tokens": round(total_tokens * supervised),
        "memory_gib": describe(memory),
        "load_gib": round(load, 2),
        "micro_batch_size": division.micro_batch_size,
        "recomputed_layers": [recomputed, shape.layers],
        "device_memory_gib": room and round(room, 1),
        "fits": fits,
        "fits_gpus_of_gb": [
            size for size, card in cards.items() if max(card.memory.needed, load) <= size * USABLE_GIB_A_GB
        ],
        "change_first": "" if fits or room is None else first_change(shape, settings, room),
        "disk_gib": round(checkpoint * kept + 4 * shape.adapter_parameters / 2**30, 3),
        "checkpoint_gib": round(checkpoint, 3),
        "tokens_per_s": speed and round(speed),
        "hours": speed and round(total_tokens / speed / 3600, 2),
        "speed_from": source,
    }


def device_memory_gib(on_gpu: bool) -> float | None:
    """None: there is no such device here."""
    device = device_of("cuda" if on_gpu else "cpu")
    return room_bytes(device) / GIB if (device.type == "cuda") == on_gpu else None


def first_change(shape: Shape, settings: StepSettings, room: float) -> str:
    """The mildest change that makes it fit: the same steps first, then another model."""
    least = replace(settings, activation_memory_gib=0)
    candidates: list[tuple[str, StepSettings]] = []
    if settings.activation_memory_gib != 0:
        candidates.append(("model.activation_memory_gib: 0 (every layer recomputes)", least))
    if isinstance(settings.micro_batch_size, int):
        candidates.append(("data.micro_batch_size: auto (the same steps)", replace(settings, micro_batch_size="auto")))
        candidates.append(
            (
                "data.micro_batch_size: auto, model.activation_memory_gib: 0 (the same steps)",
                replace(least, micro_batch_size="auto"),
            )
        )
    if settings.quantization == "none":
        candidates.append(("model.quantization: nf4", replace(least, micro_batch_size=1, quantization="nf4")))
    for change, candidate in candidates:
        if divide_step(shape, candidate, room).memory.needed <= room:
            return change
    return "a smaller data.seq_len, model.lora.r or model.base: micro-batches of one row do not fit either"
