"""NEFTune (https://arxiv.org/abs/2310.05914) as a callback: noise on the embeddings of every document that trains.

revinst fit --config CONFIG --trainer.callbacks '[{class_path: scripts.neftune.NEFTune, init_args: {alpha: 5}}]'
"""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from revinst.training.module import InstructionModule


class NEFTune(L.Callback):
    """Adds uniform noise of up to alpha / sqrt(tokens of the document * features) to each feature, in training alone.

    As the paper has it: on prompt and target, and the length is the document's own, not the packed row's.
    """

    def __init__(self, alpha: float = 5.0):
        self.alpha = alpha
        self.lengths: Tensor | None = None  # [N], of the documents that are in the decoder

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, InstructionModule)
        network = pl_module.network
        self.hooks = [
            network.decoder.register_forward_pre_hook(self.note_lengths, with_kwargs=True),
            network.base.get_input_embeddings().register_forward_hook(self.add_noise),
        ]

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for hook in self.hooks:
            hook.remove()

    def note_lengths(self, decoder: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ends = kwargs.get("cu_seqlens")
        self.lengths = None if ends is None else ends.diff()

    def add_noise(self, embedding: torch.nn.Module, args: tuple[Any, ...], embedded: Tensor) -> Tensor:
        """embedded: [1, T, d], of documents end to end."""
        if not embedding.training or self.lengths is None:
            return embedded
        bounds = self.alpha / (self.lengths * embedded.shape[-1]).sqrt()
        of_tokens = bounds.repeat_interleave(self.lengths, output_size=embedded.shape[1])  # [T]
        noise = torch.empty_like(embedded, dtype=torch.float32).uniform_(-1, 1) * of_tokens[:, None]
        return embedded + noise.to(embedded.dtype)
