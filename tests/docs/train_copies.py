"""Trains two steps with each of several copies of the package: `train_copies.py JOBS.json`, as a process of its own.

JOBS.json: a list of {"copy": folder that holds revinst/, "base": folder, "source": file, "options": {...} of
ModelSettings, "check": one of CHECKS, or "first losses" for what all are compared with, or null, "result": the file
that its numbers are written to}.

PyTorch, Lightning and transformers take seconds to import, so they are imported once, and each copy is trained in a
fork. There the copy comes first on sys.path, as PYTHONPATH would put it.
"""

import json
import multiprocessing
import os
import sys
from dataclasses import asdict
from pathlib import Path

import lightning as L
import peft  # noqa: F401  (imported for the forks)
import torch
from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: F401  (imported for the forks)


@torch.no_grad()
def losses_of(module, batches) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Of each document's targets, the long way: -log p(target), and the mean of -log p over the vocabulary."""
    nll, uniform = [], []
    for batch in batches:
        log_p = module.network.logits(module.network.hidden(batch)[0]).log_softmax(-1)
        documents = zip(log_p.split(batch.seq_lens), batch.targets[0].split(batch.seq_lens), strict=True)
        for of_document, targets in documents:
            at = (targets >= 0).nonzero()[:, 0]
            nll.append(-of_document[at, targets[at]])
            uniform.append(-of_document[at].mean(-1))
    return nll, uniform


def check_first_losses(module, data) -> dict[str, float]:
    """The first step's loss computed one document at a time, as the changes have it; of the second set validation's."""
    step_batch = data.train_dataloader().dataset.__getitems__(data.sampler.rows_at(0))
    nll, uniform = losses_of(module, step_batch.micro_batches(2))
    weights = dict(zip(data.examples.texts("id"), data.examples.texts("category"), strict=True))
    twice = [of_document for each, of_document in zip(step_batch.ids, nll, strict=True) if weights[each] == "twice"]
    assert 0 < len(twice) < len(nll)
    assert len(nll) > 4 and len({len(part) for part in nll}) > 1, "documents must differ in length to tell a change"
    mean = float(torch.cat(nll).mean())
    return {
        "unchanged": mean,
        "Label smoothing": 0.9 * mean + 0.1 * float(torch.cat(uniform).mean()),
        "Documents weigh the same": float(torch.stack([part.mean() for part in nll]).mean()),
        "A penalty on the distance to the base": mean,  # there is none yet
        "A weight for each example": float(torch.cat(nll + twice).mean()),
        "A second validation set": second_loss(module, data),
    }


def second_loss(module, data) -> float:
    """Of the first validation step of the held-out rows, the long way."""
    from revinst.data.batch import collate_rows
    from revinst.data.packing import pack_documents

    documents = data.encode_part("heldout", "target")
    rows = pack_documents(documents.lengths.tolist(), "best_fit", 256)
    nll, _ = losses_of(module, [collate_rows(documents, [row]) for row in rows[:4]])
    assert len(rows) > 4
    return float(torch.cat(nll).mean())


def spread_adapter(module) -> None:
    """Every matrix of the adapter counts."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.network.trainable_parameters():
            parameter.normal_(std=0.05)


def gradient_of(module, loss) -> list[float]:
    module.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in module.network.trainable_parameters()]).tolist()


def check_penalty(module, data) -> dict:
    """Loss and gradient of a micro-batch, and the same by plain autograd through logits of the whole vocabulary."""
    from revinst.data.batch import collate_rows

    spread_adapter(module)
    batch, network = collate_rows(data.train_documents, data.train_rows[:2]), module.network
    losses = module.micro_batch_loss(batch)
    gradient = gradient_of(module, losses["loss"])
    at, targets = batch.target_index, batch.targets[0, batch.target_index]
    with torch.no_grad(), network.without_adapter():
        log_q = network.logits(network.hidden(batch)[0, at]).log_softmax(-1)
    log_p = network.logits(network.hidden(batch)[0, at]).log_softmax(-1)
    kl = torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="sum")
    loss = torch.nn.functional.nll_loss(log_p, targets, reduction="sum") + 0.1 * kl
    return {
        "losses": [float(losses["loss"]), float(losses["kl"])],
        "gradient": gradient,
        "expected_losses": [float(loss), float(kl)],
        "expected_gradient": gradient_of(module, loss),
    }


def check_weights(module, data) -> dict:
    """Of two documents, the first of which weighs 2, and of the same with the first one twice."""
    from revinst.data.batch import collate_rows

    spread_adapter(module)
    first, second = data.train_rows[0][0], data.train_rows[1][0]
    made = []
    for weight, row in ((2.0, [first, second]), (1.0, [first, first, second])):
        batch = collate_rows(data.train_documents, [row])
        module.weight_of |= {batch.ids[0]: weight, batch.ids[-1]: 1.0}
        loss = module.micro_batch_loss(batch)
        made += [[float(loss), float(module.weights(batch).sum())], gradient_of(module, loss)]
    return dict(zip(("losses", "gradient", "expected_losses", "expected_gradient"), made, strict=True))


# After training; `check_first_losses` comes before.
CHECKS = {"penalty": check_penalty, "weights": check_weights}


def train(copy: str, base: str, source: str, options: dict, check: str | None, result: str) -> None:
    sys.path.insert(0, copy)
    os.chdir(copy)
    import revinst

    assert Path(revinst.__file__).is_relative_to(copy), f"{revinst.__file__} is not the copy in {copy}"
    from revinst.config.settings import DataSettings, LoraSettings, ModelSettings
    from revinst.data.datamodule import InstructionDataModule
    from revinst.training.module import InstructionModule

    class Record(L.Callback):
        """The adapter before training and after each step, and each step's loss."""

        def __init__(self):
            self.adapters, self.logged = [], []

        def on_train_start(self, trainer, module):
            self.adapters.append(snapshot(module))

        def on_train_batch_end(self, trainer, module, *args):
            self.adapters.append(snapshot(module))
            self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    def snapshot(module):
        return {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def moved(before, after, part):
        """Largest change of each tensor of lora_A or lora_B."""
        return [float((after[name] - before[name]).abs().max()) for name in before if part in name]

    L.seed_everything(42, verbose=False)
    rows = DataSettings(source=source, seq_len=256, rows_per_step=4, micro_batch_size=2)
    data = InstructionDataModule(rows, base)
    data.setup()
    lines = [json.dumps(asdict(example)) + "\n" for example in data.examples_of("heldout")]
    Path("second.jsonl").write_text("".join(lines), encoding="utf-8")
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
    validated = {name: float(value) for name, value in trainer.callback_metrics.items()}
    before = check_first_losses(module, data) if check == "first losses" else None
    L.seed_everything(42, verbose=False)  # what was computed until here may have drawn
    trainer.fit(module, datamodule=data)
    fresh, first, second = record.adapters
    numbers = {
        "losses": [logged["train/loss"] for logged in record.logged],
        "logged": record.logged,
        "validated_before": validated,
        "lora_a_after_1": moved(fresh, first, "lora_A"),
        "lora_b_after_1": moved(fresh, first, "lora_B"),
        "after_2": moved(fresh, second, "lora_"),
    }
    numbers["check"] = CHECKS[check](module, data) if check in CHECKS else before
    Path(result).write_text(json.dumps(numbers))


if __name__ == "__main__":
    torch.set_num_threads(1)  # the forks inherit it; sums in another order would blur the comparison
    fork = multiprocessing.get_context("fork")
    for job in json.loads(Path(sys.argv[1]).read_text()):
        process = fork.Process(target=train, kwargs=job)
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{job['copy']}: training failed")
