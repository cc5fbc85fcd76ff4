"""Packed rows to tensors: `StepBatch` (one optimizer step) and `MicroBatch` (one pass).

Shapes: T tokens of all documents of a micro-batch, end to end, with no padding; N documents.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from revinst.data.encoding import IGNORE_INDEX, Documents


@dataclass(slots=True)
class MicroBatch:
    """Documents end to end in one row; attention keeps them apart by `cu_seqlens`.

    Two documents of 3 and 2 tokens:

        input_ids       [[a0, a1, a2, b0, b1]]
        targets         [[ -, a2, a3, b1, b2]]      "-" is IGNORE_INDEX
        position_ids    [[ 0,  1,  2,  0,  1]]
        cu_seqlens      [0, 3, 5]
        seq_lens        [3, 2]
        target_index    [1, 2, 3, 4]                where targets are, so that the loss needs no device sync
    """

    input_ids: Tensor  # int64 [1, T]
    targets: Tensor  # int64 [1, T]
    position_ids: Tensor  # int64 [1, T]
    cu_seqlens: Tensor  # int32 [N + 1]
    target_index: Tensor  # int64 [num_targets]
    seq_lens: list[int]
    ids: list[str]

    @property
    def num_tokens(self) -> int:
        """Of the data: a filler, which names no documents, has none."""
        return self.input_ids.shape[1] if self.ids else 0

    @property
    def num_targets(self) -> int:
        return len(self.target_index)

    @property
    def max_seqlen(self) -> int:
        return max(self.seq_lens)

    def to(self, device, non_blocking: bool = False) -> "MicroBatch":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        move = put if non_blocking else Tensor.to
        moved: dict[str, Any] = {
            name: move(value, device) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


@dataclass(slots=True)
class StepBatch:
    """The packed rows that one rank contributes to one optimizer step, or to one validation step.

    Each row is a `MicroBatch` of its own, so that the machine, not the data, decides how many go through the network at
    once. A filler, which names no documents, stands for a row that another rank has and this one has not.
    """

    rows: list[MicroBatch]

    def micro_batches(self, size: int) -> list[MicroBatch]:
        """Rows joined, `size` at a time; as many micro-batches on every rank, fillers only where nothing else is."""
        parts = [self.rows[start : start + size] for start in range(0, len(self.rows), size)]
        return [join_rows([row for row in part if row.ids] or part[:1]) for part in parts]

    @property
    def num_targets(self) -> int:
        return sum(row.num_targets for row in self.rows)

    @property
    def num_tokens(self) -> int:
        return sum(row.num_tokens for row in self.rows)

    @property
    def ids(self) -> list[str]:
        return [row_id for row in self.rows for row_id in row.ids]

    def to(self, device, non_blocking: bool = False) -> "StepBatch":
        return StepBatch([row.to(device, non_blocking) for row in self.rows])


def put(values: Tensor, device: Any) -> Tensor:
    """A tensor of the host on the device, without waiting for what that has still to do."""
    is_upload = values.device.type == "cpu" and torch.device(device).type == "cuda"
    return values.pin_memory().to(device, non_blocking=True) if is_upload else values.to(device)


def join_rows(rows: list[MicroBatch]) -> MicroBatch:
    """Their documents end to end, on the rows' device, without waiting for it."""
    if len(rows) == 1:
        return rows[0]
    starts = [0, *accumulate(row.input_ids.shape[1] for row in rows)]
    parts = list(zip(rows, starts, strict=False))
    return MicroBatch(
        input_ids=torch.cat([row.input_ids for row in rows], dim=1),
        targets=torch.cat([row.targets for row in rows], dim=1),
        position_ids=torch.cat([row.position_ids for row in rows], dim=1),
        cu_seqlens=torch.cat([rows[0].cu_seqlens[:1], *(row.cu_seqlens[1:] + start for row, start in parts)]),
        target_index=torch.cat([row.target_index + start for row, start in parts]),
        seq_lens=[length for row in rows for length in row.seq_lens],
        ids=[row_id for row in rows for row_id in row.ids],
    )


def collate_rows(documents: Documents, rows: list[list[int]], supervised: bool = True) -> MicroBatch:
    """Builds one micro-batch from rows of document numbers.

    supervised: False makes a filler, for a rank that has no rows left in a step but must take part in it: every target
    is blank, and no document is named.
    """
    numbers = [number for row in rows for number in row]
    spans = [slice(documents.offsets[number], documents.offsets[number + 1]) for number in numbers]
    input_ids = np.concatenate([documents.input_ids[span] for span in spans]).astype(np.int64)
    targets = np.concatenate([documents.targets[span] for span in spans]).astype(np.int64)
    if not supervised:
        targets[:] = IGNORE_INDEX
    seq_lens = [int(span.stop - span.start) for span in spans]
    position_ids = np.concatenate([np.arange(length) for length in seq_lens])
    return MicroBatch(
        input_ids=torch.from_numpy(input_ids)[None],
        targets=torch.from_numpy(targets)[None],
        position_ids=torch.from_numpy(position_ids)[None],
        cu_seqlens=torch.tensor([0, *np.cumsum(seq_lens)], dtype=torch.int32),
        target_index=torch.from_numpy(np.flatnonzero(targets != IGNORE_INDEX)),
        seq_lens=seq_lens,
        ids=[documents.ids[number] for number in numbers] if supervised else [],
    )


class Fullest(NamedTuple):
    """Of the fullest rows together: tokens, those with a target on average, query-key pairs within documents."""

    tokens: int
    targets: int
    pairs: int


@dataclass(frozen=True, slots=True)
class StepRows:
    """A step's rows as a rank takes them; how many at once, the machine decides.

    rows: of a step, on this rank. micro_batch_size: its rows, or auto. fullest: what the fullest so many
    rows hold.
    """

    rows: int
    micro_batch_size: int | str
    seq_len: int
    fullest: Callable[[int], Fullest]


def full_rows(rows: int, micro_batch_size: int | str, seq_len: int) -> StepRows:
    """Of data that nobody has seen: every token of a row has a target."""
    return StepRows(rows, micro_batch_size, seq_len, lambda count: Fullest(count * seq_len, count * seq_len, 0))
