"""Lengths in, rows out: pure functions that decide which documents share a row."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from revinst.data.encoding import IGNORE_INDEX, Documents


def pack_documents(lengths: Sequence[int], packing: str, seq_len: int) -> list[list[int]]:
    """Rows of document numbers, by the packing that the config names; `joined` documents fill a row each already."""
    if packing == "best_fit":
        return pack_best_fit(lengths, seq_len)
    return [[number] for number in range(len(lengths))]


def pack_best_fit(lengths: Sequence[int], seq_len: int) -> list[list[int]]:
    """Best-fit decreasing: the longest document first, each into the fullest row that still has space.

    >>> pack_best_fit([3, 9, 5, 1], seq_len=10)
    [[1, 3], [2, 0]]

    Bit s of `spaces` says that some open row has space for exactly s tokens, so the best fit for length n is the
    lowest set bit at or above n, found on one big integer instead of a search over rows.
    """
    rows: list[list[int]] = []
    with_space: list[list[int]] = [[] for _ in range(seq_len + 1)]
    spaces = 0
    for document in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        length = lengths[document]
        assert 0 < length <= seq_len, f"document {document} has {length} tokens, a row holds {seq_len}"
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = with_space[space].pop()
            if not with_space[space]:
                spaces ^= 1 << space
        else:
            space, row = seq_len, len(rows)
            rows.append([])
        rows[row].append(document)
        left = space - length
        if not with_space[left]:
            spaces |= 1 << left
        with_space[left].append(row)
    return rows


def join_documents(blocks: Iterable[Documents], seq_len: int) -> Iterator[Documents]:
    """The blog's packing: all documents as one stream, cut every `seq_len` tokens, the short tail dropped.

    Each row becomes one document, so its parts see each other, and the last input of a row has no target, as when
    the labels of a row are shifted inside it. Where every token is supervised, EOS answers with the next document's
    first token. Yields a block of rows for each block of documents that completes some.
    """
    left = Stream(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64), [])
    for documents in blocks:
        left = left.extend(documents)
        num_rows = len(left.tokens) // seq_len
        if num_rows or documents.truncated or documents.discarded:
            yield left.cut_rows(num_rows, seq_len).with_counts(documents.truncated, documents.discarded)
            left = left.drop(num_rows * seq_len)


@dataclass(frozen=True, slots=True)
class Stream:
    """Documents end to end, each with its EOS.

    tokens: int32 `[T]`. targets: int32 `[T]`, the next token of the same document; IGNORE_INDEX at an EOS, or what
    follows it where all is supervised. ids and starts (may be negative: a row before took the beginning): of documents.
    """

    tokens: np.ndarray
    targets: np.ndarray
    starts: np.ndarray
    ids: list[str]

    def extend(self, documents: Documents) -> "Stream":
        """Appends documents: `[a0, a1 | b0]` with last targets a2 and b1 become `[a0, a1, a2, b0, b1]`."""
        ends = documents.offsets[1:]
        eos = documents.targets[ends - 1]  # always supervised
        tokens = np.insert(documents.input_ids, ends, eos)
        targets = np.insert(documents.targets, ends, IGNORE_INDEX)
        starts = documents.offsets[:-1] + np.arange(len(documents))
        if len(documents) and documents.targets[0] != IGNORE_INDEX:  # all is supervised
            targets[starts[1:] - 1] = tokens[starts[1:]]
        joined = np.concatenate([self.targets, targets])
        if len(self.tokens) and len(tokens) and documents.targets[0] != IGNORE_INDEX:
            joined[len(self.targets) - 1] = tokens[0]
        return Stream(
            np.concatenate([self.tokens, tokens]),
            joined,
            np.concatenate([self.starts, starts + len(self.tokens)]),
            [*self.ids, *documents.ids],
        )

    def cut_rows(self, num_rows: int, seq_len: int) -> Documents:
        rows = self.targets[: num_rows * seq_len].reshape(num_rows, seq_len).copy()
        rows[:, -1] = IGNORE_INDEX
        bounds = np.arange(num_rows + 1, dtype=np.int64) * seq_len
        first = np.searchsorted(self.starts, bounds[:-1], side="right") - 1
        last = np.searchsorted(self.starts, bounds[1:], side="left")
        ids = [",".join(self.ids[a:b]) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
        return Documents(self.tokens[: num_rows * seq_len], rows.reshape(-1), bounds, ids)

    def drop(self, count: int) -> "Stream":
        """Without the first `count` tokens."""
        first = max(int(np.searchsorted(self.starts, count, side="right")) - 1, 0)
        return Stream(self.tokens[count:], self.targets[count:], self.starts[first:] - count, self.ids[first:])


def hash_packed_rows(documents: Documents, rows: list[list[int]]) -> bytes:
    """SHA-256 of ids and targets, of where documents begin and of the order that rows take them in."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    order = np.array([number for row in rows for number in row], dtype=np.int64)
    parts = (documents.input_ids, documents.targets, documents.offsets, lengths, order)
    return b"".join(hashlib.sha256(np.ascontiguousarray(part).data).digest() for part in parts)
