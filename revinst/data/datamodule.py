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

from revinst.data.batch import StepBatch, collate_rows
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
    """Yields the rows that one rank takes in one optimizer step, None for one that another rank has more.

    A step takes the next `rows_per_step` rows of the epoch's order, over all ranks, so a step's rows do not depend on
    how many ranks share them; ranks take turns row by row. The order is a permutation seeded by (seed, epoch). The
    position is one number, `next_row`, counted over all epochs: a run that goes on with other steps goes on at the same
    row.
    """

    def __init__(self, num_rows: int, rows_per_step: int, seed: int):
        self.num_rows, self.rows_per_step, self.seed = num_rows, rows_per_step, seed
        self.rank, self.world_size = 0, 1
        self.next_row = 0
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))  # (epoch, its rows)

    def __len__(self) -> int:
        return math.ceil(self.num_rows / self.rows_per_step)

    def __iter__(self) -> Iterator[list[int | None]]:
        epoch = self.next_row // self.num_rows
        while self.next_row // self.num_rows == epoch:
            row = self.next_row
            self.next_row = min(row + self.rows_per_step, (epoch + 1) * self.num_rows)
            yield self.rows_at(row)

    def rows_at(self, position: int) -> list[int | None]:
        """Row numbers of this rank's share of the step that begins at a position."""
        epoch, start = divmod(position, self.num_rows)
        if epoch != self.order[0]:
            self.order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.num_rows)
        rows = self.order[1][start : start + self.rows_per_step]
        return share_rows(rows.tolist(), self.rank, self.world_size)


def share_rows(rows: list[int], rank: int, world_size: int) -> list[int | None]:
    """Every `world_size`-th of a step's rows. As many on every rank: each has to take part in every collective.

    >>> [share_rows([5, 3, 8, 1], rank, 3) for rank in range(3)]
    [[5, 1], [3, None], [8, None]]
    """
    mine: list[int | None] = [*rows[rank::world_size]]
    return mine + [None] * (-(-len(rows) // world_size) - len(mine))


class StepDataset:
    """Row numbers of a step in, tensors out; None becomes a filler."""

    def __init__(self, documents: Documents, rows: list[list[int]]):
        self.documents, self.rows = documents, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, numbers: list[int | None]) -> StepBatch:
        filler = collate_rows(self.documents, [self.rows[0]], supervised=False) if None in numbers else None
        return StepBatch(
            [filler if n is None else collate_rows(self.documents, [self.rows[n]]) for n in numbers]  # type: ignore[misc]
        )


def unwrap(batch):
    """The dataset already made the batch."""
    return batch


def hash_rows(documents: Documents, rows: list[list[int]]) -> bytes:
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    order = np.array([number for row in rows for number in row], dtype=np.int64)
    parts = (documents.input_ids, documents.targets, documents.offsets, lengths, order)
    return b"".join(hashlib.sha256(np.ascontiguousarray(part).data).digest() for part in parts)


class InstructionDataModule(L.LightningDataModule):
    """Instruction data as packed training steps and validation micro-batches.

    Args:
        source: `quickstart`, a hub id, a file, a folder, or a list of them; `{source: FILE, weight: 2}` in place of
            a name trains the rows of FILE twice an epoch (a weight below 1: that share of them).
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
        rows_per_step: packed rows in one optimizer step, over all ranks: the recipe's.
        micro_batch_size: rows in one forward: the machine's, a number or auto (as many as fit in its memory).
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
        source: str | dict[str, Any] | list[str | dict[str, Any]] = "databricks/databricks-dolly-15k",
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
        rows_per_step: int = 8,
        micro_batch_size: int | str = "auto",
        on_bad_row: str = "stop",
        base: str = "NousResearch/Llama-2-7b-hf",
        seed: int = 42,
    ):
        super().__init__()
        for name, choices in CHOICES.items():
            value = locals()[name]
            if value not in choices:
                raise UserError(f"data.{name} {value!r}: choose from {', '.join(choices)}")
        if isinstance(micro_batch_size, str) and micro_batch_size != "auto":
            raise UserError(f"data.micro_batch_size {micro_batch_size!r}: a number of rows, or auto")
        counts = {"seq_len": seq_len, "rows_per_step": rows_per_step, "micro_batch_size": micro_batch_size}
        for name, count in counts.items():
            if count != "auto" and count < 1:  # type: ignore[operator]
                raise UserError(f"data.{name} {count}: must be at least 1")
        self.source, self.columns, self.on_bad_row = source, columns, on_bad_row
        self.template_name, self.context, self.supervise = template, context, supervise
        self.strip_citations, self.cut = strip_citations, cut
        self.seq_len, self.packing = seq_len, packing
        self.heldout_fraction, self.val_fraction, self.split_path = heldout_fraction, val_fraction, split
        self.rows_per_step, self.micro_batch_size = rows_per_step, micro_batch_size
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
        self.sampler = StepSampler(len(self.train_rows), self.rows_per_step, self.seed)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """What is trained on, after `setup`, 16 hex digits each. `documents` covers every id and target that a step
        reads, so also a changed encoding.
        """
        parts = (hash_rows(self.train_documents, self.train_rows), hash_rows(self.val_documents, self.val_rows))
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

        template = [self.template.hash, self.template.name == "chat"]  # in a file, special tokens are text
        hashes = {"tokenizer": self.tokenizer.fingerprint, "template": template, "joined": joined}
        return cache_documents(hash_inputs(examples, **settings, **hashes), build)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.sampler)

    def fullest(self, count: int) -> tuple[int, int, int]:
        """Of the fullest so many training rows together: tokens (no padding), those with a target on average, and
        query-key pairs within documents.
        """
        documents = self.train_documents
        lengths = documents.lengths[np.concatenate(self.longest_first[:count])].astype(np.int64)
        tokens = int(lengths.sum())
        targets = math.ceil(tokens * documents.num_targets / max(len(documents.input_ids), 1))
        return tokens, targets, int((lengths**2).sum())

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
        if world_size > self.rows_per_step:
            raise UserError(
                f"data.rows_per_step {self.rows_per_step}: {world_size} ranks would share them, and some have none; "
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
        """One item is as many rows as a step has (`StepBatch`), in a fixed order; each is seen once over all ranks."""
        if not self.val_rows:
            return []
        numbers = range(len(self.val_rows))
        steps = [numbers[start : start + self.rows_per_step] for start in numbers[:: self.rows_per_step]]
        return DataLoader(
            StepDataset(self.val_documents, self.val_rows),  # type: ignore[arg-type]
            batch_sampler=[share_rows(list(step), *self.place) for step in steps],
            collate_fn=unwrap,
            generator=torch.Generator(),
        )

    def state_dict(self) -> dict[str, int]:
        return {"next_row": self.sampler.next_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.setup()
        self.sampler.next_row = state["next_row"]
