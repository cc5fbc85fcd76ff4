"""Trains two steps with each of several copies of the package: `train_copies.py JOBS.json`, as a process of its own.

JOBS.json: a list of {"copy": folder that holds revinst/, "base": folder, "options": {...} of ModelSettings}.
Each copy's numbers are written to COPY/result.json.

PyTorch, Lightning and transformers take seconds to import, so they are imported once, and each copy is trained in a
fork. There the copy comes first on sys.path, as PYTHONPATH would put it.
"""

import json
import multiprocessing
import sys
from pathlib import Path

import lightning as L
import peft  # noqa: F401  (imported for the forks)
import torch
from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: F401  (imported for the forks)


@torch.no_grad()
def first_step_losses(module, data) -> dict[str, float]:
    """The first step's loss computed the long way, one document at a time: as it is, smoothed, documents alike."""
    step_batch = data.train_dataloader().dataset.__getitems__(data.sampler.rows_at(0))
    nll, uniform = [], []  # of each document's targets: -log p(target), and the mean of -log p over the vocabulary
    for batch in step_batch.micro_batches(2):
        log_p = module.network.logits(module.network.hidden(batch)[0]).log_softmax(-1)
        documents = zip(log_p.split(batch.seq_lens), batch.targets[0].split(batch.seq_lens), strict=True)
        for of_document, targets in documents:
            at = (targets >= 0).nonzero()[:, 0]
            nll.append(-of_document[at, targets[at]])
            uniform.append(-of_document[at].mean(-1))
    assert len(nll) > 4 and len({len(part) for part in nll}) > 1, "documents must differ in length to tell a change"
    mean = float(torch.cat(nll).mean())
    return {
        "unchanged": mean,
        "Label smoothing": 0.9 * mean + 0.1 * float(torch.cat(uniform).mean()),
        "Documents weigh the same": float(torch.stack([part.mean() for part in nll]).mean()),
    }


def train(copy: str, base: str, options: dict) -> None:
    sys.path.insert(0, copy)
    import revinst

    assert Path(revinst.__file__).is_relative_to(copy), f"{revinst.__file__} is not the copy in {copy}"
    from revinst.config.settings import DataSettings, LoraSettings, ModelSettings
    from revinst.data.datamodule import InstructionDataModule
    from revinst.training.module import InstructionModule

    class Record(L.Callback):
        """The adapter before training and after each step, and each step's loss."""

        def __init__(self):
            self.adapters, self.losses = [], []

        def on_train_start(self, trainer, module):
            self.adapters.append(snapshot(module))

        def on_train_batch_end(self, trainer, module, *args):
            self.adapters.append(snapshot(module))
            self.losses.append(float(trainer.callback_metrics["train/loss"]))

    def snapshot(module):
        return {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def moved(before, after, part):
        """Largest change of each tensor of lora_A or lora_B."""
        return [float((after[name] - before[name]).abs().max()) for name in before if part in name]

    L.seed_everything(42, verbose=False)
    rows = DataSettings(source="quickstart", seq_len=256, rows_per_step=4, micro_batch_size=2)
    data = InstructionDataModule(rows, base)
    lora = LoraSettings(r=8, alpha=16, dropout=0.0)
    module = InstructionModule(ModelSettings(base=base, quantization="none", lora=lora, lr=1e-3, **options))
    record = Record()
    trainer = L.Trainer(
        max_steps=2,
        accelerator="cpu",
        precision="32-true",
        limit_val_batches=1,
        num_sanity_val_steps=0,
        callbacks=[record],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=copy,
    )
    trainer.validate(module, datamodule=data, verbose=False)
    val_loss = float(trainer.callback_metrics["val/loss"])
    expected = first_step_losses(module, data)
    trainer.fit(module, datamodule=data)
    fresh, first, second = record.adapters
    result = {
        "losses": record.losses,
        "expected_first_losses": expected,
        "val_loss_before": val_loss,
        "lora_a_after_1": moved(fresh, first, "lora_A"),
        "lora_b_after_1": moved(fresh, first, "lora_B"),
        "after_2": moved(fresh, second, "lora_"),
    }
    (Path(copy) / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    torch.set_num_threads(1)  # the forks inherit it; sums in another order would blur the comparison
    fork = multiprocessing.get_context("fork")
    for job in json.loads(Path(sys.argv[1]).read_text()):
        process = fork.Process(target=train, args=(job["copy"], job["base"], job["options"]))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{job['copy']}: training failed")
