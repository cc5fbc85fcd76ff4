"""`revinst plan`: steps, memory, disk and time of a config before any weights are loaded; builds no Trainer."""

import contextlib
import json
import math
import sys
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from revinst.commands.config import RevinstCLI, open_config, precision_name
from revinst.commands.trained import quiet_libraries
from revinst.data.datamodule import InstructionDataModule
from revinst.errors import UserError
from revinst.model.hardware import (
    DTYPES,
    PRECISIONS,
    choose_dtype,
    choose_precision,
    choose_quantization,
    device_of,
    room_bytes,
)
from revinst.model.lora import LoraSettings
from revinst.model.memory import (
    GIB,
    OPTIMIZER_BYTES,
    Shape,
    checkpoint_gib,
    describe,
    flop_per_token,
    load_gib,
    read_shape,
)
from revinst.model.micro_batch import Fullest, StepSettings, divide_step
from revinst.training.sharding import is_sharding

USAGE = """usage: revinst plan CONFIG [--KEY VALUE ...] [--device cuda|cpu] [--memory_gib N] [--json] [--measure]

Says what a config will cost before anything is loaded; takes the same overrides as revinst fit.
  --device      plan for a GPU or the CPU (default: this machine's; several devices are GPUs)
  --memory_gib  memory of the device to plan for (default: this machine's)
  --measure     take two real steps, and report the second beside the plan"""


@dataclass(frozen=True)
class Speed:
    """A measured speed that others are scaled from. parameters: that a token is multiplied with."""

    device: str
    tflop_per_s: float
    parameters: float
    fused: bool
    where: str


# FLOP are counted by `flop_per_token`: 8P a token with everything recomputed, 6P with nothing.
SPEEDS = (
    Speed("cuda", 455.0, 6.6e9, False, "Llama 2 7B, one H200, 8,600 tokens/s (dev/LOG.md)"),
    Speed("cuda", 740.0, 6.6e9, True, "Llama 2 7B, one H200, fused, 14,011 to 18,677 tokens/s (dev/LOG.md)"),
    Speed("cuda", 30.6, 0.135e9, False, "SmolLM2-135M, one H200, 37,900 tokens/s (dev/LOG.md)"),
    Speed("cpu", 0.2, 0.135e9, False, "SmolLM2-135M, 2 CPU cores, 220 to 360 tokens/s (dev/LOG.md)"),
)
# Dense bf16 TFLOP/s of data sheets, to scale the H200's speeds by; what is not here is not guessed at.
DATA_SHEETS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10G": 70, "4090": 165, "3090": 71}
CARDS_GB = (8, 12, 16, 24, 48, 80, 141)
USABLE_GIB_A_GB = 0.92  # a "24 GB" card has 22.1 to 23.7 GiB for us: the driver, CUDA's context and NCCL take theirs


def main(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if args[0].startswith("-"):
        raise UserError(USAGE.splitlines()[0])
    args, own = split_options(args)
    quiet_libraries()
    cli = open_config(args, [f"--{name}" for name in own])
    data = InstructionDataModule(**cli.data_arguments())
    data.setup()
    model = cli.config.model
    shape = read_shape(model.base, LoraSettings(**model.lora.as_dict()))
    settings, dtype = read_settings(cli, data, shape, own["device"])
    plan = build_plan(cli, data, shape, settings, own["memory_gib"]) | {"dtype": dtype}
    if own["measure"]:
        plan["measured"] = measure(cli, data)
    if own["json"]:
        print(json.dumps(plan, indent=2))
    else:
        render_plan(plan, cli.config.run_name)
    return 0


def measure(cli: RevinstCLI, data: InstructionDataModule) -> dict[str, float]:
    from revinst.training.module import InstructionModule
    from revinst.training.trial import measure_step

    model, trainer = cli.config.model.as_dict(), cli.config.trainer
    module = InstructionModule(**model | {"lora": LoraSettings(**model["lora"]), "betas": tuple(model["betas"])})
    with contextlib.redirect_stdout(sys.stderr):  # stdout holds the plan alone
        precision = trainer.precision or choose_precision(trainer.accelerator)
        return measure_step(module, data, accelerator=trainer.accelerator, precision=precision)


def split_options(args: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Our own options, and what is left for the config's parser."""
    own: dict[str, Any] = {"device": None, "memory_gib": None, "json": "--json" in args, "measure": "--measure" in args}
    rest = [arg for arg in args if arg not in ("--json", "--measure")]
    for name in ("device", "memory_gib"):
        for position, arg in enumerate(rest):
            key, equals, value = arg.partition("=")
            if key != f"--{name}":
                continue
            value = value if equals else "".join(rest[position + 1 : position + 2])
            del rest[position : position + (1 if equals else 2)]
            own[name] = value
            break
    if own["device"] not in (None, "cuda", "cpu"):
        raise UserError(f"--device {own['device']}: choose from cuda, cpu")
    if own["memory_gib"] is not None:
        try:
            own["memory_gib"] = float(own["memory_gib"])
        except ValueError:
            raise UserError(f"--memory_gib {own['memory_gib']}: a number of GiB") from None
    return rest, own


def read_settings(
    cli: RevinstCLI, data: InstructionDataModule, shape: Shape, device: str | None
) -> tuple[StepSettings, str]:
    """What decides memory, and the dtype that is computed in."""
    model, trainer = cli.config.model, cli.config.trainer
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
        rows=-(-data.rows_per_step // devices),
        micro_batch_size=data.micro_batch_size,
        seq_len=data.seq_len,
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
    cli: RevinstCLI, data: InstructionDataModule, shape: Shape, settings: StepSettings, memory_gib: float | None
) -> dict[str, Any]:
    documents, trainer = data.train_documents, cli.config.trainer
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
    kept = cli.config.checkpoint.keep_last + cli.config.checkpoint.keep_best + 1  # and the one that is being written
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


def predict_speed(shape: Shape, recomputed: int, settings: StepSettings) -> tuple[float | None, str]:
    """Tokens/s over all devices, and where it comes from: the measured speed of the base nearest in size."""
    kind = "cuda" if settings.on_gpu else "cpu"
    parameters = shape.linear_parameters + shape.vocabulary * shape.hidden
    known = [speed for speed in SPEEDS if speed.device == kind]
    nearest = min(
        known, key=lambda speed: (abs(math.log(speed.parameters / parameters)), speed.fused != settings.fused)
    )
    speed, source = nearest.tflop_per_s * 1e12 / flop_per_token(shape, recomputed), f"scaled from {nearest.where}"
    if kind == "cpu":
        return speed * torch.get_num_threads() / 2, source
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        sheet = next((value for part, value in DATA_SHEETS.items() if part in name), None)
        if sheet is None:
            return None, f"no figure for {name}; --measure takes one"
        speed, source = speed * sheet / DATA_SHEETS["H200"], f"{source}, by data sheet for {name}"
    return speed * settings.ranks, source


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


def render_plan(plan: dict[str, Any], name: str) -> None:
    table = Table(title=f"plan of {name}", show_header=False)
    names = ("device", "devices", "sharded", "dtype", "micro_batch_size", "steps", "steps_per_epoch", "tokens")
    for key in (*names, "supervised_tokens"):
        table.add_row(key, f"{plan[key]:,}" if type(plan[key]) is int else str(plan[key]))
    for part, gib in plan["memory_gib"].items():
        table.add_row(f"memory: {part}", f"{gib:.2f} GiB")
    if plan["sharded"]:
        table.add_row("memory: base before sharding", f"{plan['load_gib']:.2f} GiB")
    if plan["device"] == "cuda":
        table.add_row("fits GPUs of", ", ".join(f"{size} GB" for size in plan["fits_gpus_of_gb"]) or "none of these")
    table.add_row("recomputed layers", "{} of {}".format(*plan["recomputed_layers"]))
    table.add_row("disk", f"{plan['disk_gib']:.2f} GiB")
    speed = f"{plan['tokens_per_s']:,} tokens/s, {plan['hours']} h" if plan["tokens_per_s"] else "unknown"
    table.add_row("time", f"{speed} ({plan['speed_from']})")
    for key, value in plan.get("measured", {}).items():
        table.add_row(f"measured: {key}", f"{value:,}")
    Console().print(table)
    if not plan["fits"]:
        room = plan["device_memory_gib"]
        print(f"does not fit in {room} GiB; change first: {plan['change_first']}", file=sys.stderr)
