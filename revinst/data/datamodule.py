"""InstructionDataModule: wires examples, split, prompt, encoding, packing and batches. Adds no logic of its own."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from revinst.data.batch import MicroBatch, StepBatch, collate_rows
from revinst.data.cache import cache_documents, hash_inputs
from revinst.data.encoding import Documents, encode_blocks
from revinst.data.examples import Discarded, Examples, load_examples
from revinst.data.packing import join_documents, pack_documents
from revinst.data.prompt import load_template
from revinst.data.split import Split, read_split_of, select_examples, split_examples
from revinst.data.tokenizer import load_tokenizer
from revinst.errors import UserError

CHOICES = {
    "context": ("drop", "include", "exclude_rows"),
    "supervise": ("target", "all"),
    "cut": ("end", "middle"),
    "packing": ("best_fit", "joined", "none"),
    "on_bad_row": ("stop", "skip"),
}
PACKING_IN_WORDS = {
    "best_fit": "best_fit, documents are whole and never see each other",
    "joined": "joined, documents in a row see each other and are cut at its end; what fills no row is left out",
    "none": "none, one document a row",
}


class StepSampler:
    """Yields the rows of one optimizer step at a time, for one rank, already divided into micro-batches.

    A step takes the next G rows of the epoch's order, G = `rows_per_step` over all ranks, so a step's rows do not
    depend on how many ranks share them; ranks take turns row by row. The order is a permutation seeded by (seed,
    epoch). The position is one number, `next_row`, counted over all epochs: a run that goes on with another G goes on
    at the same row. Each rank gets the same number of micro-batches; `[]` stands for one that has no rows left (the
    last step of an epoch).
    """

    def __init__(self, num_rows: int, micro_batch_size: int, micro_batches_per_step: int, seed: int):
        self.num_rows = num_rows
        self.micro_batch_size = micro_batch_size
        self.micro_batches_per_step = micro_batches_per_step
        self.seed = seed
        self.rank, self.world_size = 0, 1
        self.next_row = 0

    @property
    def rows_per_step(self) -> int:
        return self.micro_batch_size * self.micro_batches_per_step * self.world_size

    def __len__(self) -> int:
        return math.ceil(self.num_rows / self.rows_per_step)

    def __iter__(self) -> Iterator[list[list[int]]]:
        epoch = self.next_row // self.num_rows
        while self.next_row // self.num_rows == epoch:
            row = self.next_row
            self.next_row = min(row + self.rows_per_step, (epoch + 1) * self.num_rows)
            yield self.micro_batches_at(row)

    def micro_batches_at(self, row: int) -> list[list[int]]:
        """Row numbers of each of this rank's micro-batches of the step that begins at a position."""
        epoch, start = divmod(row, self.num_rows)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.num_rows)
        rows = order[start : start + self.rows_per_step]
        most_rows = -(-len(rows) // self.world_size)
        mine = rows[self.rank :: self.world_size].tolist()
        size = self.micro_batch_size
        return [mine[start : start + size] for start in range(0, most_rows, size)]


class StepDataset:
    """Row numbers in, tensors out."""

    def __init__(self, documents: Documents, rows: list[list[int]]):
        self.documents, self.rows = documents, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, micro_batches: list[list[int]]) -> StepBatch:
        return StepBatch(
            [
                collate_rows(
                    self.documents,
                    [self.rows[n] for n in numbers] or [self.rows[0]],
                    supervised=bool(numbers),
                )
                for numbers in micro_batches
            ]
        )


class ValidationDataset:
    """Micro-batches of a fixed order; `rank` takes every `world_size`-th, none twice."""

    def __init__(self, documents: Documents, rows: list[list[int]], micro_batch_size: int, rank: int, world_size: int):
        self.documents = documents
        batches = [rows[start : start + micro_batch_size] for start in range(0, len(rows), micro_batch_size)]
        self.batches = batches[rank::world_size]
        # Every rank must make the same number of forwards, or one would wait for another's collective for ever.
        self.num_batches = -(-len(batches) // world_size)
        self.filler = batches[:1]

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, number: int) -> MicroBatch:
        if number < len(self.batches):
            return collate_rows(self.documents, self.batches[number])
        return collate_rows(self.documents, self.filler[0], supervised=False)


def unwrap(batch):
    """The dataset already made the batch."""
    return batch


class InstructionDataModule(L.LightningDataModule):
    """Instruction data as packed training steps and validation micro-batches.

    Args:
        source: `quickstart`, a hub id, a file, a folder, or a list of them; in a list `{source: FILE, weight: 2}`
            trains the rows of FILE twice an epoch (a weight below 1: that share of them).
        columns: our field -> the source's column, where they differ.
        template: blog, alpaca, chat, forward, or the path of a template file.
        context: drop (leave the column out of the prompt), include, or exclude_rows (leave out rows that have one).
        strip_citations: remove marks such as [12] from responses and contexts.
        supervise: target (instruction and EOS) or all (every token, as the blog does).
        seq_len: tokens in a packed row.
        cut: where a response too long for its row is cut: end, or middle (its head and its tail stay).
        packing: best_fit (documents isolated), joined (the blog's) or none (one document a row).
        heldout_fraction: share of rows that are only reported on.
        val_fraction: share of rows for val/loss, samples and every choice.
        split: the split.json of another run, used as it is; null: split by the fractions.
        micro_batch_size: rows in one forward, per rank.
        micro_batches_per_step: forwards in one optimizer step, per rank.
        on_bad_row: stop, or skip (and count).
        base: hub id or folder whose tokenizer is used; `revinst fit` links it to model.base.
        seed: of the split and the epochs' orders; linked to seed_everything.
    """

    split: Split  # these four come with setup()
    examples: Examples
    train_documents: Documents
    val_documents: Documents

    def __init__(  # keyword-only: a config names every one
        self,
        *,
        source: str | list[str | dict[str, Any]] = "databricks/databricks-dolly-15k",
        columns: dict[str, str] | None = None,
        template: str = "blog",
        context: str = "drop",
        strip_citations: bool = False,
        supervise: str = "target",
        seq_len: int = 2048,
        cut: str = "end",
        packing: str = "best_fit",
        heldout_fraction: float = 0.1,
        val_fraction: float = 0.05,
        split: str | None = None,
        micro_batch_size: int = 6,
        micro_batches_per_step: int = 2,
        on_bad_row: str = "stop",
        base: str = "NousResearch/Llama-2-7b-hf",
        seed: int = 42,
    ):
        super().__init__()
        for name, choices in CHOICES.items():
            value = locals()[name]
            if value not in choices:
                raise UserError(f"data.{name} {value!r}: choose from {', '.join(choices)}")
        for name, value in (("seq_len", seq_len), ("micro_batch_size", micro_batch_size)):
            if value < 1:
                raise UserError(f"data.{name} {value}: must be at least 1")
        if micro_batches_per_step < 1:
            raise UserError(f"data.micro_batches_per_step {micro_batches_per_step}: must be at least 1")
        self.source, self.columns, self.on_bad_row = source, columns, on_bad_row
        self.template_name, self.context, self.supervise = template, context, supervise
        self.strip_citations, self.cut = strip_citations, cut
        self.seq_len, self.packing = seq_len, packing
        self.heldout_fraction, self.val_fraction, self.split_path = heldout_fraction, val_fraction, split
        self.micro_batch_size, self.micro_batches_per_step = micro_batch_size, micro_batches_per_step
        self.base, self.seed = base, seed
        self.discarded: list[Discarded] = []

    def setup(self, stage: str | None = None) -> None:
        """Loads, splits, encodes and packs, once; every rank does the same and gets the same."""
        if hasattr(self, "split"):
            return
        self.tokenizer = load_tokenizer(self.base)
        self.template = load_template(self.template_name, self.tokenizer.hf)
        self.examples = self.load_examples()
        if self.split_path is None:
            self.split = split_examples(self.examples, self.heldout_fraction, self.val_fraction, self.seed)
        else:
            self.split = read_split_of(self.examples, Path(self.split_path))
        self.train_documents, self.train_rows = self.encode_train()
        self.val_documents = self.encode_part("val", "target")
        # val/loss is of isolated documents, always
        packing = "none" if self.packing == "joined" else self.packing
        self.val_rows = pack_documents(self.val_documents.lengths.tolist(), packing, self.seq_len)
        if not self.train_rows:
            raise UserError(f"data: no row of {self.seq_len} tokens can be filled; raise data.seq_len or add rows")
        sampler = StepSampler(len(self.train_rows), self.micro_batch_size, self.micro_batches_per_step, self.seed)
        self.sampler = sampler

    @property
    def reasons(self) -> dict[str, str]:
        """What was chosen for the data and why, one sentence each; after `setup`."""
        ordinary = f"the ordinary one: {self.tokenizer.reason}"
        fast = "gigatoken, checked against the ordinary one's ids"
        return {"tokenizer": ordinary if self.tokenizer.reason else fast, "packing": PACKING_IN_WORDS[self.packing]}

    def load_examples(self) -> Examples:
        examples, self.discarded = load_examples(
            self.source,
            self.columns,
            self.on_bad_row,
            context=self.context,
            strip_citations=self.strip_citations,
        )
        return examples

    def examples_of(self, part: str) -> Examples:
        """Examples of `train`, `val` or `heldout`, in the split's order."""
        return select_examples(self.examples, getattr(self.split, part))

    def encode_train(self) -> tuple[Documents, list[list[int]]]:
        """Training documents and the rows that they are packed into, each as often as its source's weight says."""
        documents = self.encode_part("train", self.supervise, joined=self.packing == "joined")
        if self.packing == "joined":  # weights were applied before joining
            return documents, pack_documents(documents.lengths.tolist(), "none", self.seq_len)
        row_of = {row_id: number for number, row_id in enumerate(documents.ids)}
        numbers = [row_of[row_id] for row_id in self.repeat_by_weight(self.split.train) if row_id in row_of]
        rows = pack_documents(documents.lengths[numbers].tolist(), self.packing, self.seq_len)
        return documents, [[numbers[place] for place in row] for row in rows]

    def repeat_by_weight(self, ids: list[str]) -> list[str]:
        """Ids as often as an epoch trains them: 2.5 is twice for all and a third time for a seeded half."""
        weights = self.examples.weights[self.examples.rows_of(ids)]
        drawn = np.random.default_rng([self.seed, len(ids)]).random(len(ids))
        copies = np.floor(weights).astype(int) + (drawn < weights % 1)
        return [row_id for row_id, count in zip(ids, copies.tolist(), strict=True) for _ in range(count)]

    def encode_part(self, part: str, supervise: str, joined: bool = False) -> Documents:
        ids = getattr(self.split, part)
        examples = select_examples(self.examples, self.repeat_by_weight(ids) if joined else ids)
        settings: dict[str, Any] = {
            "seq_len": self.seq_len,
            "supervise": supervise,
            "with_context": self.context == "include",
            "cut": self.cut,
        }

        def build() -> Iterator[Documents]:
            blocks = encode_blocks(examples, self.template, self.tokenizer, **settings)
            return join_documents(blocks, self.seq_len) if joined else blocks

        hashes = {"tokenizer": self.tokenizer.fingerprint, "template": self.template.hash, "joined": joined}
        return cache_documents(hash_inputs(examples, **settings, **hashes), build)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.sampler)

    def count_steps(self, num_rows: int, world_size: int) -> int:
        """Optimizer steps in which so many ranks take so many rows."""
        return math.ceil(num_rows / (self.micro_batch_size * self.micro_batches_per_step * world_size))

    def train_dataloader(self) -> DataLoader:
        """One item is one optimizer step (`StepBatch`)."""
        if self.trainer is not None:
            self.sampler.rank, self.sampler.world_size = self.trainer.global_rank, self.trainer.world_size
        dataset = StepDataset(self.train_documents, self.train_rows)
        # Batches are slices of arrays: workers would only cost memory, and prefetching would blur the position.
        # Its own generator: a DataLoader draws a seed at each epoch, which would shift the dropout of a resumed run.
        return DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_sampler=self.sampler,
            collate_fn=unwrap,
            generator=torch.Generator(),
        )

    def val_dataloader(self) -> DataLoader | list:
        """One item is one `MicroBatch`; each document is seen once over all ranks."""
        if not self.val_rows:
            return []
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        dataset = ValidationDataset(self.val_documents, self.val_rows, self.micro_batch_size, rank, world_size)
        return DataLoader(dataset, batch_size=None, generator=torch.Generator())  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, int]:
        return {"next_row": self.sampler.next_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.setup()
        self.sampler.next_row = state["next_row"]
