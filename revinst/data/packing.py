"""Lengths in, rows out: pure functions that decide which documents share a row."""

import numpy as np

from revinst.data.encoding import IGNORE_INDEX, Documents, concatenate


def pack_documents(documents: Documents, packing: str, seq_len: int) -> tuple[Documents, list[list[int]]]:
    """Rows of document numbers, by the packing that the config names, and the documents they number."""
    if packing == "joined":
        documents = join_documents(documents, seq_len)
    if packing == "best_fit":
        return documents, pack_best_fit(documents.lengths.tolist(), seq_len)
    return documents, [[number] for number in range(len(documents))]


def pack_best_fit(lengths: list[int], seq_len: int) -> list[list[int]]:
    """Best-fit decreasing: the longest document first, each into the fullest row that still has room.

    >>> pack_best_fit([3, 9, 5, 1], seq_len=10)
    [[1, 3], [2, 0]]

    Bit r of `rooms` says that some open row has room for exactly r tokens, so the best fit for length n is the
    lowest set bit at or above n, found on one big integer instead of a search over rows.
    """
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(seq_len + 1)]
    rooms = 0
    for document in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        length = lengths[document]
        assert 0 < length <= seq_len, f"document {document} has {length} tokens, a row holds {seq_len}"
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room, row = seq_len, len(rows)
            rows.append([])
        rows[row].append(document)
        left = room - length
        if not with_room[left]:
            rooms |= 1 << left
        with_room[left].append(row)
    return rows


def join_documents(documents: Documents, seq_len: int) -> Documents:
    """The blog's packing: all documents as one stream, cut every `seq_len` tokens, the short tail dropped.

    Each row becomes one document, so its parts see each other, and the last input of a row has no target, as when
    the labels of a row are shifted inside it. Where every token is supervised, EOS answers with the next document's
    first token.
    """
    input_ids, targets = [], []
    for number in range(len(documents)):
        start, end = documents.offsets[number], documents.offsets[number + 1]
        last = documents.targets[end - 1]  # always supervised: EOS
        input_ids.append(np.append(documents.input_ids[start:end], last))
        supervised_all = documents.targets[start] != IGNORE_INDEX
        follows = documents.input_ids[end] if end < len(documents.input_ids) and supervised_all else IGNORE_INDEX
        targets.append(np.append(documents.targets[start:end], follows))
    num_rows = sum(map(len, input_ids)) // seq_len
    kept = num_rows * seq_len
    rows = concatenate(targets)[:kept].reshape(num_rows, seq_len)
    rows[:, -1] = IGNORE_INDEX
    starts = np.cumsum([0, *map(len, input_ids)])
    ids = [
        ",".join(
            documents.ids[n]
            for n in range(
                int(np.searchsorted(starts, row * seq_len, side="right")) - 1,
                int(np.searchsorted(starts, (row + 1) * seq_len, side="left")),
            )
        )
        for row in range(num_rows)
    ]
    return Documents(
        input_ids=concatenate(input_ids)[:kept],
        targets=rows.reshape(-1),
        offsets=np.arange(num_rows + 1, dtype=np.int64) * seq_len,
        ids=ids,
        truncated=documents.truncated,
        discarded=documents.discarded,
    )
