"""How a step's rows go through the network: how many at once, and how many layers recompute their activations.

The recipe says how many rows a step has (`data.rows_per_step`); this says how a machine takes them. Training and
`revinst plan` ask the same function.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from revinst.model.memory import Memory, Shape, layer_bytes_per_token, predict_memory
from revinst.model.recompute import count_recomputed_layers

FULL_TOKENS = 4096  # of a forward: with fewer a GPU loses more by unpacking weights than by recomputing activations
CPU_TOKENS = 2048  # of a forward: a CPU is no faster with more, and they take memory


class Fullest(NamedTuple):
    """Of the fullest rows together: tokens, those with a target on average, query-key pairs within documents."""

    tokens: int
    targets: int
    pairs: int


@dataclass(frozen=True)
class StepSettings:
    """What of a config and a machine decides the memory of a step on one device.

    rows: of a step, on this rank. micro_batch_size: rows in one forward, or auto. fused: all layers are.
    itemsize: bytes of the compute dtype. fullest: how much the fullest so many rows hold.
    """

    rows: int
    micro_batch_size: int | str
    seq_len: int
    fullest: Callable[[int], Fullest]
    quantization: str
    optimizer: str
    dropout: bool
    activation_memory_gib: float | str
    attention: str
    fused: bool
    on_gpu: bool
    itemsize: int = 2
    ranks: int = 1
    sharded: bool = False


@dataclass(frozen=True)
class Division:
    """micro_batch_size: rows in one forward. recomputed: layers. memory: at the peak. reason: a sentence."""

    micro_batch_size: int
    recomputed: int
    memory: Memory
    reason: str


def divide_step(shape: Shape, settings: StepSettings, room_gib: float | None) -> Division:
    """room_gib: what base, adapter and step may take together; None: enough."""
    asked, rows = settings.micro_batch_size, settings.rows
    if isinstance(asked, int):
        return divide_by(shape, settings, min(asked, rows), room_gib, "asked for")
    most = rows if settings.on_gpu else min(rows, max(1, CPU_TOKENS // settings.seq_len))
    divisions = [divide_by(shape, settings, size, room_gib, "") for size in range(1, most + 1)]
    fitting = [d for d in divisions if room_gib is None or d.memory.needed <= room_gib] or divisions[:1]
    size = fitting[-1].micro_batch_size
    if settings.activation_memory_gib != 0:  # more rows or fewer recomputed layers: not both
        whole = [d.micro_batch_size for d in fitting if d.recomputed == 0]
        size = max(min(size, -(-FULL_TOKENS // settings.seq_len)), *whole, 1)
    size = -(-rows // -(-rows // size))  # the same number of forwards, evenly filled
    what = "of a CPU more would be no faster" if not settings.on_gpu else "what fits"
    return divide_by(shape, settings, size, room_gib, what)


def divide_by(shape: Shape, settings: StepSettings, size: int, room_gib: float | None, why: str) -> Division:
    tokens, targets, pairs = settings.fullest(size)

    def memory(recomputed: int) -> Memory:
        return predict_memory(
            shape,
            tokens=tokens,
            targets=targets,
            score_pairs=pairs if settings.attention == "eager" else 0,
            recomputed=recomputed,
            dropout=settings.dropout,
            fused=settings.fused,
            quantization=settings.quantization,
            optimizer=settings.optimizer,
            on_gpu=settings.on_gpu,
            itemsize=settings.itemsize,
            ranks=settings.ranks,
            sharded=settings.sharded,
            accumulates=settings.rows > size,
        )

    kept = layer_bytes_per_token(shape, settings.dropout, settings.fused) * settings.itemsize / 2
    known = room_gib is not None and settings.on_gpu
    free = room_gib - memory(shape.layers).at_rest if known else None  # type: ignore[operator]
    recomputed = count_recomputed_layers(shape.layers, settings.activation_memory_gib, kept * tokens, free)
    needed = memory(recomputed)
    room = "" if room_gib is None else f" of {room_gib:.1f}"
    reason = f"{size} of a step's {settings.rows} rows a forward ({why}; {needed.needed:.1f}{room} GiB)"
    return Division(size, recomputed, needed, reason)
