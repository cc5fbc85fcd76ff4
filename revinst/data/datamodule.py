"""InstructionDataModule: wires examples, split, prompt, encoding, packing and batches. Adds no logic of its own."""

import hashlib
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from revinst.config.settings import Config, DataSettings
from revinst.data.batch import Fullest, StepRows
from revinst.data.cache import cache_documents, hash_inputs
from revinst.data.encoding import Documents, encode_blocks
from revinst.data.example_table import Discarded, Examples, load_examples
from revinst.data.packing import hash_packed_rows, join_documents, pack_documents
from revinst.data.prompt import load_template
from revinst.data.sampler import StepDataset, StepSampler, share_rows, unwrap
from revinst.data.split import Split, read_split_of, select_examples, split_examples
from revinst.data.tokenizer import load_tokenizer
from revinst.errors import UserError

PACKING_IN_WORDS = {
    "best_fit": "best_fit, documents are whole and never see each other",
    "joined": "joined, documents in a row see each other and are cut at its end; what fills no row is left out",
    "none": "none, one document a row",
}


class InstructionDataModule(L.LightningDataModule):
    """Instruction data as packed training steps and validation micro-batches.

    Args:
        base: hub id or folder whose tokenizer is used.
        seed: of the split and the epochs' orders.
    """

    split: Split  # these four come with setup()
    examples: Examples
    train_documents: Documents
    val_documents: Documents

    def __init__(self, settings: DataSettings, base: str, seed: int = 42):
        super().__init__()
        self.settings, self.base, self.seed = settings, base, seed
        self.discarded: list[Discarded] = []

    def setup(self, stage: str | None = None) -> None:
        """Loads, splits, encodes and packs, once; every rank does the same and gets the same."""
        if hasattr(self, "split"):
            return
        settings = self.settings
        self.tokenizer = load_tokenizer(self.base)
        self.template = load_template(settings.template, self.tokenizer.hf)
        self.examples = self.load_examples()
        if settings.split is None:
            self.split = split_examples(self.examples, settings.heldout_fraction, settings.val_fraction, self.seed)
        else:
            self.split = read_split_of(self.examples, Path(settings.split))
        self.train_documents, self.train_rows = self.encode_train()
        self.val_documents = self.encode_part("val", "target")
        # val/loss is of isolated documents, always
        packing = "none" if settings.packing == "joined" else settings.packing
        self.val_rows = pack_documents(self.val_documents.lengths.tolist(), packing, settings.seq_len)
        if not self.train_rows:
            raise UserError(f"data: no row of {settings.seq_len} tokens can be filled; raise data.seq_len or add rows")
        self.sampler = StepSampler(len(self.train_rows), settings.rows_per_step, self.seed)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """What is trained on, after `setup`, 16 hex digits each. `documents` covers every id and target that a step
        reads, so also a changed encoding.
        """
        parts = (
            hash_packed_rows(self.train_documents, self.train_rows),
            hash_packed_rows(self.val_documents, self.val_rows),
        )
        return {
            "split": self.split.hash,
            "template": self.template.hash,
            "tokenizer": self.tokenizer.fingerprint,
            "documents": hashlib.sha256(b"".join(parts)).hexdigest()[:16],
        }

    @property
    def reasons(self) -> dict[str, str]:
        """What was chosen for the data and why, one sentence each; after `setup`."""
        ordinary = f"the ordinary one: {self.tokenizer.reason}"
        fast = "gigatoken, checked against the ordinary one's ids"
        rowless = ", ".join(self.tokenizer.rowless)
        without = f"; the base has no row for {rowless}, which it is read without" if rowless else ""
        return {
            "tokenizer": (ordinary if self.tokenizer.reason else fast) + without,
            "packing": PACKING_IN_WORDS[self.settings.packing],
        }

    def load_examples(self) -> Examples:
        settings = self.settings
        examples, self.discarded = load_examples(
            settings.source,
            settings.columns,
            settings.on_bad_row,
            context=settings.context,
            strip_citations=settings.strip_citations,
        )
        return examples

    def examples_of(self, part: str) -> Examples:
        """Examples of `train`, `val` or `heldout`, in the split's order."""
        return select_examples(self.examples, getattr(self.split, part))

    def encode_train(self) -> tuple[Documents, list[list[int]]]:
        """Training documents and the rows that they are packed into, each as often as its source's weight says."""
        settings = self.settings
        documents = self.encode_part("train", settings.supervise, joined=settings.packing == "joined")
        if settings.packing == "joined":  # weights were applied before joining
            return documents, pack_documents(documents.lengths.tolist(), "none", settings.seq_len)
        row_of = {example_id: number for number, example_id in enumerate(documents.ids)}
        numbers = [row_of[example_id] for example_id in self.repeat_by_weight(self.split.train) if example_id in row_of]
        rows = pack_documents(documents.lengths[numbers].tolist(), settings.packing, settings.seq_len)
        return documents, [[numbers[place] for place in row] for row in rows]

    def repeat_by_weight(self, ids: list[str]) -> list[str]:
        """Ids as often as an epoch trains them: 2.5 is twice for all and a third time for a seeded half."""
        weights = self.examples.weights[self.examples.numbers_of(ids)]
        drawn = np.random.default_rng([self.seed, len(ids)]).random(len(ids))
        copies = np.floor(weights).astype(int) + (drawn < weights % 1)
        return [example_id for example_id, count in zip(ids, copies.tolist(), strict=True) for _ in range(count)]

    def encode_part(self, part: str, supervise: str, joined: bool = False) -> Documents:
        ids = getattr(self.split, part)
        examples = select_examples(self.examples, self.repeat_by_weight(ids) if joined else ids)
        settings: dict[str, Any] = {
            "seq_len": self.settings.seq_len,
            "supervise": supervise,
            "with_context": self.settings.context == "include",
            "cut": self.settings.cut,
        }

        def build() -> Iterator[Documents]:
            blocks = encode_blocks(examples, self.template, self.tokenizer, **settings)
            return join_documents(blocks, self.settings.seq_len) if joined else blocks

        template = [self.template.hash, self.template.name == "chat"]  # in a file, special tokens are text
        hashes = {"tokenizer": self.tokenizer.fingerprint, "template": template, "joined": joined}
        return cache_documents(hash_inputs(examples, **settings, **hashes), build)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.sampler)

    def step_rows(self, ranks: int) -> StepRows:
        """How a step's rows come to a rank. Raises UserError for more ranks than a step has rows."""
        self.check_ranks(ranks)
        settings = self.settings
        rows = -(-settings.rows_per_step // ranks)
        return StepRows(rows, settings.micro_batch_size, settings.seq_len, self.fullest)

    def fullest(self, count: int) -> Fullest:
        """Of so many training rows; without padding."""
        documents = self.train_documents
        lengths = documents.lengths[np.concatenate(self.longest_first[:count])].astype(np.int64)
        tokens = int(lengths.sum())
        targets = math.ceil(tokens * documents.num_targets / max(len(documents.input_ids), 1))
        return Fullest(tokens, targets, int((lengths**2).sum()))

    @cached_property
    def epoch_tokens(self) -> int:
        """Of all training rows; weights repeat documents."""
        return int(self.train_documents.lengths[np.concatenate(self.train_rows)].sum())

    @cached_property
    def longest_first(self) -> list[list[int]]:
        lengths = self.train_documents.lengths
        return sorted(self.train_rows, key=lambda row: int(lengths[row].sum()), reverse=True)

    @property
    def place(self) -> tuple[int, int]:
        """(rank, number of ranks)."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        self.check_ranks(world_size)
        return rank, world_size

    def check_ranks(self, world_size: int) -> None:
        """Raises UserError for more ranks than a step has rows."""
        rows_per_step = self.settings.rows_per_step
        if world_size > rows_per_step:
            raise UserError(
                f"data.rows_per_step {rows_per_step}: {world_size} ranks would share them, and some have none; "
                f"raise it to {world_size}, or take fewer devices"
            )

    def train_dataloader(self) -> DataLoader:
        """One item is one optimizer step (`StepBatch`)."""
        if self.trainer is not None:
            self.sampler.rank, self.sampler.world_size = self.place
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
        return self.load_in_order(self.val_documents, self.val_rows) if self.val_rows else []

    def load_in_order(self, documents: Documents, rows: list[list[int]]) -> DataLoader:
        """One item is as many rows as a step has (`StepBatch`), in a fixed order; each is seen once over all ranks."""
        numbers, rows_per_step = range(len(rows)), self.settings.rows_per_step
        steps = [numbers[start : start + rows_per_step] for start in numbers[::rows_per_step]]
        return DataLoader(
            StepDataset(documents, rows),  # type: ignore[arg-type]
            batch_sampler=[share_rows(list(step), *self.place) for step in steps],
            collate_fn=unwrap,
            generator=torch.Generator(),
        )

    def state_dict(self) -> dict[str, int]:
        return {"next_row": self.sampler.next_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.setup()
        self.sampler.next_row = state["next_row"]


def build_data(config: Config) -> InstructionDataModule:
    """Of a whole config; nothing is loaded yet."""
    return InstructionDataModule(config.data, config.model.base, config.seed_everything)
