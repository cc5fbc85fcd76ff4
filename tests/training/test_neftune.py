"""scripts/neftune.py: how much noise, on what, and when."""

import lightning as L
import torch

from scripts.neftune import NEFTune
from tests.tiny import build_data, build_module, build_trainer


class Listen(L.Callback):
    """Keeps what comes out of the embedding, and what its table has for these ids."""

    def __init__(self) -> None:
        self.seen: dict[bool, list[tuple[torch.Tensor, list[int]]]] = {True: [], False: []}

    def on_fit_start(self, trainer, module):
        self.lengths: list[int] = []
        module.network.decoder.register_forward_pre_hook(self.note, with_kwargs=True)
        module.network.base.get_input_embeddings().register_forward_hook(self.keep)

    def note(self, decoder, args, kwargs):
        self.lengths = kwargs["seq_lens"]

    def keep(self, embedding, args, embedded):
        noise = (embedded.float() - embedding.weight[args[0]].float())[0].detach()
        self.seen[embedding.training].append((noise, self.lengths))


def test_noise_goes_by_the_documents_length_and_training_alone_has_it(tiny_llama, tmp_path):
    listen = Listen()
    trainer = build_trainer(tmp_path, callbacks=[NEFTune(5.0), listen], limit_val_batches=1, val_check_interval=1)
    trainer.fit(build_module(tiny_llama), build_data(tiny_llama))
    assert len(listen.seen[True]) == 1 and len(listen.seen[False]) == 1
    ((noise, lengths),) = listen.seen[True]
    assert len(lengths) > 6 and max(lengths) > 2 * min(lengths) and len(noise) == sum(lengths)
    for part in noise.split(lengths):
        length, features = part.shape
        bound = 5.0 / (length * features) ** 0.5
        assert part.abs().max() <= bound * 1.001 and part.abs().max() > 0.95 * bound
        assert abs(part.mean().item()) < bound * 4 / (3 * part.numel()) ** 0.5  # 4 standard errors of a uniform mean
    assert not listen.seen[False][0][0].any()
