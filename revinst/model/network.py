"""Base, adapter and head as one network: the only place where decoder and head run on packed rows.

Shapes: T tokens of a micro-batch, its documents end to end; n of them have a target; d features; V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from revinst.data.batch import MicroBatch
from revinst.errors import UserError
from revinst.model.after_head import read_after_head
from revinst.model.attention_interface import told_of_documents
from revinst.model.fused.host_memory import HostMemory
from revinst.model.rope import rotate_by_document

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

CHUNK_TARGETS = 1024  # their logits: 1024 x 32,000 x 4 bytes = 125 MiB in fp32
TokenLoss = Callable[..., Tensor]  # logits [n, V] in fp32, targets [n], and what `token_loss` is given besides -> [n]


def nll(logits: Tensor, targets: Tensor) -> Tensor:
    """-log p of each target. logits [n, V], targets [n] -> [n]."""
    return F.cross_entropy(logits, targets, reduction="none")


class Network(torch.nn.Module):
    """model: of transformers, or PEFT's around one. Whoever needs a loss, a log-probability or a KL of packed rows asks
    here; the decoder that writes (`inference/engine/decoder.py`) reads `base`.

    host_memory: takes the inputs of fused layers that are offloaded, if any are.
    """

    def __init__(self, model: "PeftModel | PreTrainedModel"):
        super().__init__()
        self.model = model
        self.host_memory: HostMemory | None = None
        self.after_head = read_after_head(self.base.config)
        rotate_by_document(self.base)

    # ---- packed rows -------------------------------------------------------------------------------------------

    @told_of_documents()
    def hidden(self, batch: MicroBatch) -> Tensor:
        """[1, T, d] after the decoder's last norm; no document sees another."""
        return self.decoder(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            cu_seqlens=batch.cu_seqlens,
            seq_lens=batch.seq_lens,
            # Of four dimensions, so that transformers (5.23) makes none of its own; for bases that hand on this alone.
            attention_mask=batch.cu_seqlens[None, None, None],
            use_cache=False,
        ).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [n, d] -> [n, V] in fp32: the head, and what follows it."""
        logits = self.head(hidden).float()
        return logits if self.after_head is None else self.after_head(logits)

    def token_nll(self, batch: MicroBatch) -> Tensor:
        """-log p of each target, fp32 `[n]`, in the order of `batch.target_index`."""
        return self.token_loss(batch, nll)

    def token_loss(self, batch: MicroBatch, loss: TokenLoss, *besides: Tensor) -> Tensor:
        """Another loss of each target's logits, `[n]`. No other position gets logits.

        besides: more of each target, `[n, ...]`, that `loss` needs; it gets no gradient.

        With gradients, a chunk's is taken right after its loss, so that logits are computed once and only one chunk's
        are in memory. Without targets the result is empty, and a backward through it still runs every layer: a rank
        without rows in a step takes part in it.
        """
        hidden = self.target_hidden(batch)
        targets = batch.targets[0].index_select(0, batch.target_index)  # [n]
        if not len(targets):
            return hidden.sum(-1).float()  # [0]
        if torch.is_grad_enabled():
            assert not any(p.requires_grad for p in self.head.parameters()), "`ChunkedLoss` gives the head no gradient"
            return cast(Tensor, ChunkedLoss.apply(hidden, self.logits, loss, targets, *besides))
        return torch.cat([loss(self.logits(h), *of_targets) for h, *of_targets in chunk(hidden, targets, *besides)])

    def target_hidden(self, batch: MicroBatch) -> Tensor:
        """`hidden` where there is a target, `[n, d]`, in the order of `batch.target_index`."""
        return self.hidden(batch)[0].index_select(0, batch.target_index)

    def target_log_p(self, batch: MicroBatch) -> Tensor:
        """log p of every token of the vocabulary where there is a target, fp32 `[n, V]`; not for training."""
        return self.logits(self.target_hidden(batch)).log_softmax(-1)

    # ---- its parts and modes -----------------------------------------------------------------------------------

    @property
    def base(self) -> "PreTrainedModel":
        """Without PEFT's wrapper; its linear layers keep their adapters."""
        return cast("PreTrainedModel", self.adapted.get_base_model() if self.has_adapter else self.model)

    @property
    def has_adapter(self) -> bool:
        return hasattr(self.model, "peft_config")

    @property
    def adapted(self) -> "PeftModel":
        """With PEFT's wrapper, for who reads or writes the adapter that it has."""
        return cast("PeftModel", self.model)

    @property
    def dtype(self) -> torch.dtype:
        """What is not quantised has it."""
        weight = self.base.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight.dtype

    @property
    def decoder(self) -> torch.nn.Module:
        return self.base.get_decoder()

    @property
    def layers(self) -> torch.nn.ModuleList:
        """Of the decoder."""
        lists = (child for child in self.decoder.children() if isinstance(child, torch.nn.ModuleList))
        found = getattr(self.decoder, "layers", None) or next(lists, None)
        if found is None:
            raise UserError(f"model.base: the decoder of a {type(self.base).__name__} is no list of layers")
        return cast(torch.nn.ModuleList, found)

    @property
    def head(self) -> torch.nn.Module:
        return self.base.get_output_embeddings()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def forget(self) -> None:
        """What fused layers have offloaded for a backward that will not come."""
        if self.host_memory is not None:
            self.host_memory.forget()

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        with self.adapted.disable_adapter() if self.has_adapter else nullcontext():
            yield

    @contextmanager
    def in_eval_mode(self) -> Iterator[None]:
        """Every submodule's own mode is restored after (`train()` on the root would not do)."""
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def chunk(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Of each tensor the same CHUNK_TARGETS targets at a time."""
    return zip(*(tensor.split(CHUNK_TARGETS) for tensor in tensors), strict=True)


class ChunkedLoss(torch.autograd.Function):
    """(hidden [n, d], hidden -> logits by frozen weights, loss, its arguments of each target [n, ...]) -> [n]; the
    gradient is ready before backward.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, logits: Callable[[Tensor], Tensor], loss: TokenLoss, *of_targets: Tensor
    ) -> Tensor:
        losses, grad = [], torch.empty_like(hidden)
        for h, g, *arguments in chunk(hidden.detach(), grad, *of_targets):
            with torch.enable_grad():
                values = loss(logits(h.requires_grad_()), *arguments)
                total = values.sum()
            g.copy_(torch.autograd.grad(total, h)[0])
            losses.append(values.detach())
        ctx.save_for_backward(grad)
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        # The factor is one over thousands of targets: in fp16 it would be subnormal, in bf16 rounded to 8 bits.
        scaled = torch.cat([(g.float() * factor[:, None]).to(g.dtype) for g, factor in chunk(grad, grads[0])])
        return scaled, *[None] * (len(ctx.needs_input_grad) - 1)
