"""How a step's rows go through the network: how many at once, and how many layers recompute their activations.

The recipe says how many rows a step has (`data.rows_per_step`); this says how a machine takes them. Training and
`revinst plan` ask the same function.
"""

from dataclasses import dataclass

from revinst.config.settings import ModelSettings
from revinst.data.batch import StepRows
from revinst.model.fused.fp8 import BaseGemm
from revinst.model.hardware import DTYPES, Hardware, Machine
from revinst.model.memory import Memory, Shape, layer_bytes_per_token, predict_memory
from revinst.model.recompute import count_recomputed_layers

FULL_TOKENS = 4096  # of a micro-batch: with fewer a GPU loses more by unpacking weights than by recomputing activations
CPU_TOKENS = 2048  # of a micro-batch: a CPU is no faster with more, and they take memory


@dataclass(frozen=True, slots=True)
class StepSetup:
    """All that decides the memory of a step on one device. fused: all layers are. base_gemm: kind of `BaseGemm`."""

    settings: ModelSettings
    machine: Machine
    hardware: Hardware
    rows: StepRows
    fused: bool
    base_gemm: str = "bf16"


@dataclass(frozen=True)
class Division:
    """Of a step into micro-batches. micro_batch_size: rows. recomputed: layers. memory: at its peak. reason: words.

    gemm: how fused layers take the base's products.
    """

    micro_batch_size: int
    recomputed: int
    memory: Memory
    reason: str
    gemm: BaseGemm


def divide_step(shape: Shape, step: StepSetup, available_gib: float | None) -> Division:
    """available_gib: what base, adapter and step may take together; None: enough."""
    rows, asked, on_gpu = step.rows.rows, step.rows.micro_batch_size, step.hardware.on_gpu
    if isinstance(asked, int):
        return divide_by(shape, step, min(asked, rows), available_gib, "asked for")
    most = rows if on_gpu else min(rows, max(1, CPU_TOKENS // step.rows.seq_len))
    divisions = [divide_by(shape, step, size, available_gib, "") for size in range(1, most + 1)]
    fitting = [d for d in divisions if available_gib is None or d.memory.needed <= available_gib] or divisions[:1]
    size = fitting[-1].micro_batch_size
    if step.settings.activation_memory_gib != 0:  # more rows or fewer recomputed layers: not both
        whole = [d.micro_batch_size for d in fitting if d.recomputed == 0]
        size = max(min(size, -(-FULL_TOKENS // step.rows.seq_len)), *whole, 1)
    size = -(-rows // -(-rows // size))  # the same number of micro-batches, evenly filled
    what = "what fits" if on_gpu else "on a CPU more would be no faster"
    return divide_by(shape, step, size, available_gib, what)


def divide_by(shape: Shape, step: StepSetup, size: int, available_gib: float | None, why: str) -> Division:
    settings, hardware, machine = step.settings, step.hardware, step.machine
    tokens, targets, pairs = step.rows.fullest(size)
    itemsize, dropout = DTYPES[hardware.dtype].itemsize, settings.lora.dropout > 0

    def memory(recomputed: int, keeps: bool = False) -> Memory:
        return predict_memory(
            shape,
            tokens=tokens,
            targets=targets,
            score_pairs=pairs if hardware.attention == "eager" else 0,
            recomputed=recomputed,
            dropout=dropout,
            fused=step.fused,
            quantization=hardware.quantization,
            optimizer=settings.optimizer,
            on_gpu=hardware.on_gpu,
            itemsize=itemsize,
            ranks=machine.ranks,
            sharded=machine.sharded,
            accumulates=step.rows.rows > size,
            gemm=BaseGemm(step.base_gemm, keeps),
        )

    kept = layer_bytes_per_token(shape, dropout, step.fused) * itemsize / 2
    known = available_gib is not None and hardware.on_gpu
    free = available_gib - memory(shape.layers).at_rest if known else None  # type: ignore[operator]
    recomputed = count_recomputed_layers(shape.layers, settings.activation_memory_gib, kept * tokens, free)
    needed, with_copy = memory(recomputed), memory(recomputed, keeps=True)
    # Where as little memory as can be was asked for, and for layers that come and go, weights are unpacked each time.
    may_keep = step.base_gemm != "bf16" and settings.activation_memory_gib != 0 and not machine.sharded
    if keeps := may_keep and (available_gib is None or with_copy.needed <= available_gib):
        needed = with_copy
    memory_gib = f"{needed.needed:.1f}" + ("" if available_gib is None else f" of {available_gib:.1f}")
    reason = f"{size} of a step's {step.rows.rows} rows a forward ({why}; the step needs {memory_gib} GiB)"
    return Division(size, recomputed, needed, reason, BaseGemm(step.base_gemm, keeps))
