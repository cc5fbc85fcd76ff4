"""How much memory training takes, from the base's config alone: counted where it can be, fitted where it can't.

Letters: h hidden size, f MLP size, T tokens of a micro-batch, L decoder layers, P parameters.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from revinst.config.words import OPTIMIZERS
from revinst.model.after_head import read_cap
from revinst.model.fused.description import Undescribed
from revinst.model.fused.description import describe as describe_layer
from revinst.model.fused.fp8 import COPIES, BaseGemm
from revinst.model.network import CHUNK_TARGETS, Network

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer
    from transformers import PreTrainedConfig

GIB = 2**30
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # 4 bits, an 8-bit scale each 64 weights, an fp32 scale each 256 scales
LOGIT_BYTES = 12  # a logit of a chunk, in fp32: its log-softmax, and the gradients of both (counted by torch.profiler)
CAP_BYTES = 4  # more where logits are capped: what tanh gives is kept
CPU_LOGIT_BYTES = 4  # more on a CPU, whose allocator has not given back output and gradient in bf16
SCORE_BYTES = (
    15  # a query-key pair and head in `eager` attention, backward included; fitted to the peak of one run (dev/LOG.md)
)
CPU_PROCESS_GIB = 0.75  # Python, PyTorch, transformers and Lightning, before anything is loaded
CPU_ACTIVATIONS = 1.7  # times the GPU's: fitted to the peaks of four runs of SmolLM2 (dev/LOG.md)
GATHERED_LAYERS = 4  # of fsdp2: the layer at work and the next one, each with the buffer that it was gathered into
OUT_OF_MEMORY = (
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
)
FRAGMENTATION = 0.03  # what PyTorch's allocator reserves beyond what is allocated


@dataclass(frozen=True, slots=True)
class Shape:
    """What a base and its adapter consist of; nothing is loaded."""

    layers: int
    hidden: int
    mlp: int
    vocabulary: int
    linear_parameters: int  # of the layers that are quantised
    other_parameters: int  # embeddings, head and norms; a tied head counts once
    adapter_parameters: int
    lora_inputs: int  # widths of the inputs of one layer's adapted modules, summed
    lora_ranks: int  # their ranks, summed
    queries: int  # heads x their size
    keys: int
    heads: int
    norm_inputs: int  # features of one layer that norms of heads and norms after blocks read; fused layers keep them
    capped: bool  # logits, softly


@dataclass(frozen=True, slots=True)
class Memory:
    """GiB of each part at the peak of a step, on one device."""

    process: float
    base: float
    adapter: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    fragmentation: float

    @property
    def at_rest(self) -> float:
        """Before a micro-batch's pass."""
        return self.fragmentation + self.process + self.base + self.adapter + self.gradients + self.optimizer

    @property
    def needed(self) -> float:
        """On a GPU logits and a layer's activations take turns; the CPU's allocator gives neither back."""
        if self.process:
            return self.at_rest + self.activations + self.logits
        return self.at_rest + max(self.activations, self.logits)

    @property
    def peak(self) -> float:
        """What `torch.cuda.max_memory_allocated` shows (perf/peak_gib in metrics.csv); on the CPU, of the process."""
        return self.needed - self.fragmentation


def shape_of(network: Network) -> Shape:
    """Of a base with its adapter, quantised or not, on the meta device or loaded."""
    base, config, head, layers = network.base, network.base.config, network.head, network.layers
    frozen = {name: module for name, module in base.named_modules() if "lora_" not in name and module is not head}
    linear = [module for module in frozen.values() if isinstance(module, torch.nn.Linear)]
    in_linear = {id(parameter) for module in linear for parameter in module.parameters(recurse=False)}
    adapter = network.trainable_parameters()
    frozen_parameters = [parameter for parameter in base.parameters() if not parameter.requires_grad]
    adapted = [
        cast("LoraLayer", module)
        for module in layers.modules()
        if hasattr(module, "lora_A") and hasattr(module, "in_features")
    ]
    head_size = find(config, "head_dim") or config.hidden_size // config.num_attention_heads
    mlp = find(config, "intermediate_size", "ffn_dim", "n_inner", "moe_intermediate_size", "expert_dim")
    return Shape(
        layers=len(layers),
        hidden=config.hidden_size,
        mlp=mlp or 4 * config.hidden_size,
        vocabulary=config.vocab_size,
        linear_parameters=sum(module.in_features * module.out_features for module in linear),
        other_parameters=sum(p.numel() for p in frozen_parameters if id(p) not in in_linear),
        adapter_parameters=sum(p.numel() for p in adapter),
        lora_inputs=sum(module.in_features or 0 for module in adapted) // len(layers),
        lora_ranks=sum(module.r["default"] for module in adapted) // len(layers),
        queries=head_size * config.num_attention_heads,
        keys=head_size * (find(config, "num_key_value_heads", "num_kv_heads") or config.num_attention_heads),
        heads=config.num_attention_heads,
        norm_inputs=norm_inputs(layers),
        capped=read_cap(config) is not None,
    )


def norm_inputs(layers: torch.nn.ModuleList) -> int:
    """0 for what `fused/description.py` does not describe."""
    try:
        return describe_layer(layers[0]).norm_inputs
    except Undescribed:
        return 0


def find(config: "PreTrainedConfig", *names: str) -> int | None:
    """The first that it has; architectures call the same by many names. As it was written: some of it may differ by
    layer, and is refused as an attribute.
    """
    values = config.to_dict()
    written = (values.get(config.attribute_map.get(name, name)) for name in names)
    return next((value for value in written if isinstance(value, int)), None)


def layer_bytes_per_token(shape: Shape, dropout: bool, fused: bool) -> float:
    """What one layer keeps for its backward in 16 bits, bytes a token, when nothing of it is recomputed.

    Fused: what `fused/layer.py` names. Plain: the inputs of two norms with their fp32 copies (12h), q, k, v and the
    output of attention (8h), gate, up and their product (6f); and of each adapted module's input what dropout leaves, a
    mask and a copy (3 bytes), or without dropout the inputs that modules share (2 bytes). Against 29 x 2h counted with
    saved-tensor hooks on Llama 2 7B, the plain one gives 31 x 2h.
    """
    h, f = shape.hidden, shape.mlp
    if fused:
        kept = 2 * h + 2 * shape.queries + 2 * shape.keys + 2 * f + shape.lora_ranks + shape.norm_inputs
        return 2 * kept + 4 * shape.heads
    return 20 * h + 6 * f + (3 * shape.lora_inputs if dropout else 2 * (3 * h + f))


def activation_gib(
    shape: Shape, tokens: int, recomputed: int, dropout: bool, fused: bool, base_gemm: str = "bf16"
) -> float:
    """At the peak of a step, when one layer is in its backward.

    Plain: inputs of the recomputed layers (2h), all of the others, the layer itself without its norms' copies and gated
    product, and the gradients of gate, up and two hidden states (4f + 4h). Fused: inputs of recomputed layers are on
    the host but for two layers' (8h); the layer's gradients and the wide input of its GEMM take 8f + 8h, gate and up
    once more 4f. The fused figures were fitted to two peaks of Llama 2 7B (dev/LOG.md). In 8 bits the gradients of gate
    and up are there once more (2f).
    """
    h, f = shape.hidden, shape.mlp
    kept = (shape.layers - recomputed) * layer_bytes_per_token(shape, dropout, fused)
    if fused:
        once_more = 2 * f if COPIES[base_gemm] else 0
        return tokens * (kept + 8 * h + 8 * f + once_more + (8 * h + 4 * f if recomputed else 0)) / GIB
    inputs = recomputed * 2 * h
    layer = layer_bytes_per_token(shape, dropout, fused) - 8 * h - 2 * f if recomputed else 0
    return tokens * (kept + inputs + layer + 4 * f + 4 * h) / GIB


def predict_memory(
    shape: Shape,
    *,
    tokens: int,
    targets: int,
    recomputed: int,
    dropout: bool,
    score_pairs: int = 0,
    fused: bool = False,
    quantization: str = "nf4",
    optimizer: str = "paged_adamw_32bit",
    on_gpu: bool = True,
    itemsize: int = 2,
    ranks: int = 1,
    sharded: bool = False,
    accumulates: bool = False,
    gemm: BaseGemm = BaseGemm(),  # noqa: B008  (frozen)
) -> Memory:
    """tokens, targets: of the largest micro-batch. score_pairs: its query-key pairs, where `eager` attention is used.
    itemsize: bytes of the dtype that is computed in. gemm: of fused layers. ranks: share the layers if `sharded`
    (fsdp2), else each has all.

    DDP keeps a copy of the gradients in its buckets. FSDP2 keeps on each rank a share of packed weights, adapter,
    gradients and optimizer state, and two whole layers with the copies that they are gathered into; embeddings, head
    and statistics are not shared. When it accumulates over micro-batches the adapter's gradients are whole, until the
    last backward replaces each layer's by a share.

    On a GPU a paged optimizer's state is not counted: PyTorch does not allocate it, and it may leave the GPU.
    """
    is_paged = on_gpu and optimizer.startswith("paged")
    adapter = shape.adapter_parameters
    activations = activation_gib(shape, tokens, recomputed, dropout, fused, gemm.kind) * itemsize / 2
    activations += SCORE_BYTES * shape.heads * score_pairs / GIB
    share = ranks if sharded else 1
    gradients = (1.0 if accumulates else 1 / ranks) if sharded else 2 if ranks > 1 else 1
    parts = {
        "base": load_gib(shape, quantization, itemsize) + (copy_gib(shape, gemm.kind) if gemm.keeps else 0.0),
        "adapter": 4 * adapter / share / GIB,
        "gradients": 4 * adapter * gradients / GIB,
        "optimizer": 0.0 if is_paged else adapter * (OPTIMIZERS[optimizer] if on_gpu else 8) / share / GIB,
        "activations": activations if on_gpu else CPU_ACTIVATIONS * activations,
        "logits": min(CHUNK_TARGETS, targets) * logit_bytes(shape, on_gpu) / GIB,
    }
    if sharded:
        weights = shape.linear_parameters * (0.5 if quantization == "nf4" else itemsize)
        gathered = GATHERED_LAYERS * (weights + 4 * adapter) / shape.layers
        parts["base"] += (weights / ranks - weights + gathered) / GIB
    fragmentation = FRAGMENTATION * sum(parts.values()) if on_gpu else 0.0
    return Memory(process=0.0 if on_gpu else CPU_PROCESS_GIB, fragmentation=fragmentation, **parts)


def logit_bytes(shape: Shape, on_gpu: bool) -> int:
    """Of all logits of one target, at the peak."""
    return shape.vocabulary * (LOGIT_BYTES + CAP_BYTES * shape.capped + (0 if on_gpu else CPU_LOGIT_BYTES))


def load_gib(shape: Shape, quantization: str, itemsize: int = 2) -> float:
    """The whole base, which a rank of fsdp2 also has to hold once, before it is sharded."""
    linear = shape.linear_parameters * (NF4_BYTES if quantization == "nf4" else itemsize)
    return (linear + itemsize * shape.other_parameters) / GIB


def copy_gib(shape: Shape, base_gemm: str) -> float:
    """The copies of the layers' weights that products in 8 bits read, where they are kept."""
    return COPIES[base_gemm] * shape.linear_parameters / GIB


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator gave up, of the GPU or of the CPU; only the first has an exception of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(part in text for part in OUT_OF_MEMORY)


def advise(command: str) -> str:
    """What to change when memory runs out in a command."""
    if command != "fit":
        return "give --memory_gib or a smaller --batch_size where the command takes them, or take another device"
    return (
        "with data.micro_batch_size: 1 or model.activation_memory_gib: 0 the run goes on from its last checkpoint, "
        "which is whole; a smaller data.seq_len or model.lora.r needs another --run_name"
    )


def checkpoint_gib(shape: Shape, optimizer: str) -> float:
    """Adapter and both moments."""
    return shape.adapter_parameters * (4 + OPTIMIZERS[optimizer]) / GIB


def flop_per_token(shape: Shape, recomputed: int) -> float:
    """Forward 2P, backward 4P, recomputing 2P.

    Backward through frozen weights is only 2P, but the adapters' gradients, attention's backward and the elementwise
    work take as long again: on Llama 2 7B recomputing all layers costs 1.33 times the time of recomputing none.
    """
    parameters = shape.linear_parameters + shape.vocabulary * shape.hidden
    return parameters * (6 + 2 * recomputed / shape.layers)


def describe(memory: Memory) -> dict[str, Any]:
    return {name: round(value, 3) for name, value in asdict(memory).items()} | {
        "peak": round(memory.peak, 2),
        "needed": round(memory.needed, 2),
    }
