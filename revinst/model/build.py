"""A config's base and adapter as a `Network`, and every choice that depends on the machine, with its reason.

`fit` builds the network and chooses for it; `revinst plan` makes the same choices for one without weights.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.distributed.device_mesh import DeviceMesh

from revinst.config.settings import LoraSettings, ModelSettings
from revinst.data.batch import StepRows
from revinst.errors import UserError
from revinst.model.attention import choose_kernel
from revinst.model.base import bad_config, load_base, read_config
from revinst.model.fused.fp8 import check_base_gemm, choose_base_gemm
from revinst.model.fused.support import choose_layers, fuse_layers, linears_of
from revinst.model.hardware import DTYPES, Hardware, Machine, available_bytes
from revinst.model.layer_trial import why_not_computed
from revinst.model.lora import attach_lora
from revinst.model.memory import GIB, Shape, copy_gib, shape_of
from revinst.model.micro_batch import Division, StepSetup, divide_step
from revinst.model.network import Network
from revinst.model.proof import choose_proved, prove, why_not_fused
from revinst.model.recompute import recompute_layers
from revinst.model.sharding import shard_layers
from revinst.model.tiny_copy import head_sizes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Choices:
    """step: what the division was made for. fused: numbers of the layers. reasons: choice -> one sentence."""

    shape: Shape
    step: StepSetup
    fused: list[int]
    division: Division
    reasons: dict[str, str]

    @property
    def hardware(self) -> Hardware:
        return self.step.hardware


def choose(
    network: Network,
    settings: ModelSettings,
    machine: Machine,
    hardware: Hardware,
    rows: StepRows,
    available_gib: float | None = None,
) -> Choices:
    """How a machine trains a network, loaded or on the meta device.

    hardware: of `choose_proved`. available_gib: what base, adapter and step may take there together; None: enough.
    Raises UserError for what was asked for and can't be had.
    """
    check_positions(network, settings.base, rows.seq_len)
    shape, layers = shape_of(network), network.layers
    fused, why_fused = choose_layers(layers, settings.kernels, on_gpu=hardware.on_gpu, triton=hardware.triton)
    if fused and (differs := why_not_fused(network.base.config, machine.device if machine.is_here else CPU)):
        if settings.kernels == "fused":
            raise UserError(f"model.kernels fused: {differs}; use model.kernels: auto")
        fused, why_fused = [], f"plain: {differs}"
    linears = [linear for number in fused for linear in linears_of(layers[number])]
    base_gemm, why_gemm = choose_base_gemm(settings.base_gemm, linears, why_fused, hardware)
    step = StepSetup(settings, machine, hardware, rows, fused=len(fused) == len(layers), base_gemm=base_gemm)
    division = divide_step(shape, step, available_gib)
    if division.gemm.keeps:
        why_gemm += f"; their weights in 8 bits are kept ({copy_gib(shape, base_gemm):.1f} GiB)"
    reasons = hardware.reasons | {
        "adapter": f"{shape.adapter_parameters:,} parameters are trained",
        "kernels": why_fused,
        "base_gemm": why_gemm,
        "micro_batch": division.reason,
        "recompute": f"{division.recomputed} of {len(layers)} layers recompute activations",
    }
    return Choices(shape, step, fused, division, reasons)


def check_positions(network: Network, base: str, seq_len: int) -> None:
    """Raises UserError for rows that may hold a text longer than the table of learned positions (OPT, BioGPT)."""
    words, longest = network.base.get_input_embeddings(), getattr(network.base.config, "max_position_embeddings", None)
    tables = [m for m in network.decoder.modules() if isinstance(m, torch.nn.Embedding) and m is not words]
    learned = any(table.num_embeddings - getattr(table, "offset", 0) == longest for table in tables)
    if learned and longest is not None and seq_len > longest:
        raise UserError(
            f"data.seq_len {seq_len}: model.base {base} has learned the positions of {longest} tokens and knows none "
            f"beyond; set data.seq_len to {longest} or less"
        )


def build_empty(base: str, lora: LoraSettings, quantization: str = "none") -> Network:
    """Base and adapter without weights, on the meta device. Raises UserError as loading would, and for a base whose
    packed rows would not be computed right, or whose weights would not be in 4 bits where they are asked for.
    """
    from transformers import AutoModelForCausalLM

    config = read_config(base)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:
        raise bad_config(base, error) from error
    prove(base, config)
    if quantization == "nf4" and (share := share_of_experts(model)):
        raise UserError(
            f"model.base {base}: {100 * share:.0f} % of its weights are experts in one tensor a layer, which "
            "bitsandbytes leaves in 16 bits; set model.quantization: none, or take a base without experts"
        )
    with torch.device("meta"):
        return Network(attach_lora(model, lora, base))


def share_of_experts(model: "PreTrainedModel") -> float:
    """Of a model's parameters: those in tensors [experts, out, in]."""
    others = (module for module in model.modules() if not isinstance(module, torch.nn.modules.conv._ConvNd))
    own = {p for module in others for p in module.parameters(recurse=False) if p.dim() == 3}
    return sum(p.numel() for p in own) / sum(p.numel() for p in model.parameters())


def build_network(
    settings: ModelSettings, machine: Machine, rows: StepRows, mesh: DeviceMesh | None = None
) -> tuple[Network, Choices]:
    """Loads the base onto this rank's device and attaches a fresh adapter.

    mesh: of the ranks that share the layers, where `machine.sharded`. Raises UserError for a base, an adapter or a
    choice that can't be.
    """
    hardware = choose_proved(settings.base, machine, settings.attention, settings.quantization)
    check_base_gemm(settings.base_gemm, hardware)  # before the base is loaded
    base = load_base(settings.base, machine.device, hardware.quantization, hardware.attention, DTYPES[hardware.dtype])
    network = Network(attach_lora(base, settings.lora, settings.base))
    choices = choose(network, settings, machine, hardware, rows, available_bytes(machine.device) / GIB)
    fused, recomputed = choices.fused, choices.division.recomputed
    recompute_layers(network, [number for number in range(recomputed) if number not in fused])
    asked, sizes = settings.attention, head_sizes(network.base.config)
    kernel = choose_kernel(hardware.attention, asked, machine.device, DTYPES[hardware.dtype], sizes)
    gemm = choices.division.gemm
    if fused and (differs := why_not_computed(network, fused, recomputed, kernel, gemm)):
        raise UserError(
            f"model.kernels {settings.kernels}: fused layers come out wrong on {hardware.device_name}: {differs}; use "
            "model.kernels: plain, and tell the project"
        )
    network.host_memory = fuse_layers(network.layers, fused, recomputed, kernel, gemm)
    if mesh is not None:
        choices.reasons["sharding"] = shard_layers(network, mesh, machine.device)
    return network.train(), choices  # transformers loads in eval mode, which turns checkpointing and dropout off
