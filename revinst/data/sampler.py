"""Which packed rows make a step, and each rank's share of them."""

import math
from collections.abc import Iterator

import numpy as np

from revinst.data.batch import StepBatch, collate_rows
from revinst.data.encoding import Documents


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
