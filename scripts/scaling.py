"""Expected efficiency on many GPUs, from one GPU's measured speed and the bytes that a step sends.

    python scripts/scaling.py        # the tables of docs/scaling.md

An estimate beyond two GPUs. Efficiency is the step's time on one GPU divided by its time on many with as many rows a
GPU. `worst` lets no transfer overlap with computing; `best` hides all of DDP's behind the last micro-batch's backward
and of FSDP2's behind the micro-batches, as far as these last. What a step and a gathered layer cost beside transfers
was measured with two GPUs and hides behind nothing.
"""

import math
from dataclasses import dataclass

RANK_R = 64
GPUS_A_MACHINE = 8
NVLINK_GB_PER_S = 450.0  # each way, an H100 or H200 in an HGX machine (data sheet: 900 both ways)
LINK_SHARE = 0.8  # of a link's rate that large collectives reach; an assumption
LATENCY_S = 20e-6  # a hop of a tree; an assumption
# Measured with two H200s, Llama 2 7B, recomputing, 2 micro-batches of 6 rows on each (docs/scaling.md): half of one
# GPU's step took 1.602 s, DDP's 1.617, FSDP2's 1.713 with 128 gathers.
STEP_S = 0.015
GATHER_S = 0.75e-3
BACKWARD_SHARE = 0.7  # of a micro-batch's time; with everything recomputed it would be 0.67 to 0.75
STATISTICS = 1 / 64 + 4 / (64 * 256)  # bytes a weight that no rank sends: they are whole on each


@dataclass(frozen=True)
class Model:
    """Of Llama 2. step_s: one GPU's for `tokens`, in `micro_batches`."""

    name: str
    layers: int
    hidden: int
    mlp: int
    keys: int  # width of k and v
    tokens: int
    micro_batches: int
    step_s: float

    @property
    def linear(self) -> int:
        return self.layers * (2 * self.hidden**2 + 2 * self.hidden * self.keys + 3 * self.hidden * self.mlp)

    @property
    def adapter(self) -> int:
        attention = 2 * 2 * self.hidden + 2 * (self.hidden + self.keys)  # q, o; k, v: inputs and outputs
        return RANK_R * self.layers * (attention + 3 * (self.hidden + self.mlp))


# Measured on one H200 in the fast mode at 24,576 tokens a step of two micro-batches (dev/LOG.md): all else follows.
TOKENS_PER_S = 18_686
SEVEN = Model("7B", 32, 4096, 11008, 4096, 24_576, 2, 24_576 / TOKENS_PER_S)
# Not measured: the 7B's time a token, times the ratio of linear weights. 12,288 tokens in one micro-batch.
SEVENTY = Model("70B", 80, 8192, 28672, 1024, 12_288, 1, 0.0)
SEVENTY = Model(**vars(SEVENTY) | {"step_s": 12_288 / TOKENS_PER_S * SEVENTY.linear / SEVEN.linear})


@dataclass(frozen=True)
class Traffic:
    """Bytes in and out of one GPU in a step, but for the factor (N - 1) / N, and how many collectives carry them."""

    gathered: float  # all-gathers of weights
    reduced: float  # gradients; an all-reduce counts twice
    gathers: int
    reductions: int


def ddp_traffic(model: Model) -> Traffic:
    """An all-reduce of the adapter's fp32 gradients a step, in buckets of 25 MiB."""
    gradients = 4 * model.adapter
    return Traffic(0, 2 * gradients, 0, math.ceil(gradients / (25 * 2**20)))


def fsdp_traffic(model: Model) -> Traffic:
    """Each layer gathered for each forward and each backward, packed; the adapter's gradients scattered once a step."""
    weights = model.linear / 2 + 4 * model.adapter
    passes = 2 * model.micro_batches
    return Traffic(passes * weights, 4 * model.adapter, passes * model.layers, model.layers)


def transfer_s(size: float, gpus: int, network_gbit_per_s: float) -> float:
    """Of `size` bytes, the slower of the two links. Network: of a machine; NVLink: of a GPU."""
    machines = math.ceil(gpus / GPUS_A_MACHINE)
    inside = min(gpus, GPUS_A_MACHINE)
    nvlink = size * (1 - 1 / inside) / (LINK_SHARE * NVLINK_GB_PER_S * 1e9)
    network = size * (1 - 1 / machines) / (LINK_SHARE * network_gbit_per_s / 8 * 1e9)
    return max(nvlink, network)


def efficiency(model: Model, strategy: str, gpus: int, network_gbit_per_s: float) -> tuple[float, float]:
    """(worst, best)."""
    traffic = ddp_traffic(model) if strategy == "ddp" else fsdp_traffic(model)
    seconds = transfer_s(traffic.gathered + traffic.reduced, gpus, network_gbit_per_s)
    seconds += (traffic.gathers + traffic.reductions) * LATENCY_S * math.log2(gpus)
    hidden_behind = model.step_s
    if strategy == "ddp":
        hidden_behind *= BACKWARD_SHARE / model.micro_batches
    exposed = max(0.0, seconds - hidden_behind)
    shown = model.step_s + STEP_S + traffic.gathers * GATHER_S
    return model.step_s / (shown + seconds), model.step_s / (shown + exposed)


NETWORKS = (100.0, 200.0, 400.0, 3200.0)
CASES = ((SEVEN, "ddp"), (SEVEN, "fsdp2"), (SEVENTY, "ddp"), (SEVENTY, "fsdp2"))


def render_traffic() -> list[str]:
    lines = ["| model | strategy | step on one GPU | weights gathered | gradients | collectives |", "| --- " * 6 + "|"]
    for model, strategy in CASES:
        traffic = ddp_traffic(model) if strategy == "ddp" else fsdp_traffic(model)
        gathered, reduced = (f"{size / 1e9:.2f} GB" for size in (traffic.gathered, traffic.reduced))
        step = f"{model.step_s:.2f} s, {model.tokens:,} tokens"
        collectives = traffic.gathers + traffic.reductions
        lines.append(f"| {model.name} | {strategy} | {step} | {gathered} | {reduced} | {collectives} |")
    return lines


def render_efficiency() -> list[str]:
    head = "| model | strategy | 8 GPUs, NVLink | " + " | ".join(
        f"{gpus}, {network:g} Gb/s" for gpus in (64, 512) for network in NETWORKS
    )
    lines = [head + " |", "| --- " * (3 + 2 * len(NETWORKS)) + "|"]
    for model, strategy in CASES:
        cells = [(8, NETWORKS[0]), *((gpus, network) for gpus in (64, 512) for network in NETWORKS)]
        shares = [efficiency(model, strategy, *cell) for cell in cells]
        row = " | ".join(f"{100 * worst:.0f}-{100 * best:.0f} %" for worst, best in shares)
        lines.append(f"| {model.name} | {strategy} | {row} |")
    return lines


if __name__ == "__main__":
    print("\n".join([*render_traffic(), "", *render_efficiency()]))
