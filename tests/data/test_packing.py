"""Rows: every document once and whole (best_fit, none), or the blog's one stream cut at row ends (joined)."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from revinst.data import packing as stage
from revinst.data.encoding import IGNORE_INDEX, Documents, concatenate_documents, encode_examples
from revinst.data.example_table import load_examples
from revinst.data.packing import pack_best_fit
from revinst.data.prompt import load_template

EOS = 2
LENGTHS = st.lists(st.integers(1, 50), min_size=20, max_size=60)


def join_documents(documents, seq_len):
    return concatenate_documents(list(stage.join_documents([documents], seq_len)))


def pack_documents(documents, packing, seq_len):
    documents = join_documents(documents, seq_len) if packing == "joined" else documents
    return documents, stage.pack_documents(documents.lengths.tolist(), packing, seq_len)


def fit_best_slowly(lengths: list[int], seq_len: int) -> list[list[int]]:
    """Best-fit decreasing, as a textbook has it: search all rows for the fullest with room."""
    rows: list[list[int]] = []
    for document in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        left = [seq_len - sum(lengths[n] for n in row) - lengths[document] for row in rows]
        fitting = [n for n, room in enumerate(left) if room >= 0]
        if fitting:
            rows[min(fitting, key=lambda n: left[n])].append(document)
        else:
            rows.append([document])
    return rows


def count_rows_in_order(lengths: list[int], seq_len: int) -> int:
    """Rows of packing without a search: each document into the last row, or a new one."""
    rows, room = 0, 0
    for length in lengths:
        if length > room:
            rows, room = rows + 1, seq_len
        room -= length
    return rows


def build_documents(sizes: list[tuple[int, int]], supervise: str = "target") -> tuple[Documents, list[int]]:
    """Documents of (prompt, target) lengths whose ids count up from 10, and their whole stream with EOS."""
    inputs, targets, stream, next_id = [], [], [], 10
    for prompt, target in sizes:
        tokens = [*range(next_id, next_id + prompt + target), EOS]
        next_id += prompt + target
        first = prompt if supervise == "target" else 1
        inputs.append(tokens[:-1])
        targets.append([IGNORE_INDEX] * (first - 1) + tokens[first:])
        stream += tokens
    documents = Documents(
        input_ids=np.concatenate(inputs).astype(np.int32),
        targets=np.concatenate(targets).astype(np.int32),
        offsets=np.cumsum([0, *map(len, inputs)]),
        ids=[f"d{n}" for n in range(len(sizes))],
    )
    return documents, stream


# ---- best_fit --------------------------------------------------------------------------------------------------------


def test_the_docstrings_example():
    assert pack_best_fit([3, 9, 5, 1], seq_len=10) == [[1, 3], [2, 0]]
    assert pack_best_fit([], seq_len=10) == []


def test_every_document_once_and_no_row_too_long():
    seen = []

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(LENGTHS, st.integers(50, 120), st.randoms(use_true_random=False))
    def check(lengths, seq_len, shuffler):
        rows = pack_best_fit(lengths, seq_len)
        assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
        assert all(0 < sum(lengths[number] for number in row) <= seq_len for row in rows)
        # as the slow search does, and whatever the order of the documents
        assert len(rows) == len(fit_best_slowly(lengths, seq_len))
        shuffled = shuffler.sample(lengths, len(lengths))
        assert len(pack_best_fit(shuffled, seq_len)) == len(rows)
        seen.append((len(rows), shuffled != lengths))

    check()
    assert max(rows for rows, _ in seen) > 10 and sum(moved for _, moved in seen) > 50


def test_a_document_longer_than_a_row_is_our_mistake():
    with pytest.raises(AssertionError, match="document 1 has 11 tokens, a row holds 10"):
        pack_best_fit([3, 11], seq_len=10)


@pytest.mark.parametrize("seq_len", [512, 2048])
def test_real_rows_fill_nearly_all(dolly, smollm, seq_len):
    examples = load_examples(dolly)[0][:2000]
    lengths = encode_examples(examples, load_template("blog"), smollm, seq_len).lengths.tolist()
    rows = pack_best_fit(lengths, seq_len)
    fewest = math.ceil(sum(lengths) / seq_len)
    assert len(lengths) == 2000 and fewest > 100
    assert fewest <= len(rows) <= 1.02 * fewest < count_rows_in_order(lengths, seq_len)


def test_packing_is_deterministic():
    lengths = [random.Random(0).randint(1, 50) for _ in range(200)]
    assert pack_best_fit(lengths, 64) == pack_best_fit(list(lengths), 64)


# ---- none and joined -------------------------------------------------------------------------------------------------


def test_none_is_one_document_a_row():
    documents, _ = build_documents([(2, 1), (3, 2), (1, 1)])
    same, rows = pack_documents(documents, "none", seq_len=8)
    assert same is documents and rows == [[0], [1], [2]]


def test_best_fit_keeps_the_documents():
    documents, _ = build_documents([(2, 1), (3, 2), (1, 1)])  # 3, 5 and 2 inputs
    same, rows = pack_documents(documents, "best_fit", seq_len=8)
    assert same is documents and rows == [[1, 0], [2]]


def test_joined_rows_letter_by_letter():
    """Two documents of 4 and 6 tokens, EOS included, in rows of 4: [10 11 12 E] [13 14 15 16]; 17 and E are dropped."""
    _ = IGNORE_INDEX
    documents, stream = build_documents([(2, 1), (3, 2)])
    joined, rows = pack_documents(documents, "joined", seq_len=4)
    assert stream == [10, 11, 12, EOS, 13, 14, 15, 16, 17, EOS] and rows == [[0], [1]]
    assert joined.input_ids.tolist() == [10, 11, 12, EOS, 13, 14, 15, 16]
    assert joined.targets.tolist() == [_, 12, EOS, _, _, _, 16, _]
    every = build_documents([(2, 1), (3, 2)], supervise="all")[0]
    assert join_documents(every, 4).targets.tolist() == [11, 12, EOS, _, 14, 15, 16, _]
    assert join_documents(every, 5).targets.tolist() == [11, 12, EOS, 13, _, 15, 16, 17, EOS, _]


@pytest.mark.parametrize("supervise", ["target", "all"])
def test_joined_rows_are_the_exact_stream(supervise):
    seen = []

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.tuples(st.integers(2, 9), st.integers(1, 4)), min_size=1, max_size=20), st.integers(2, 12))
    def check(sizes, seq_len):
        documents, stream = build_documents(sizes, supervise)
        joined = join_documents(documents, seq_len)
        num_rows = len(stream) // seq_len  # the tail is dropped
        assert joined.input_ids.tolist() == stream[: num_rows * seq_len]
        assert joined.lengths.tolist() == [seq_len] * num_rows
        supervised = [
            supervise == "all" or place >= prompt for prompt, target in sizes for place in range(prompt + target + 1)
        ]
        for row in range(num_rows):
            targets = joined.targets[row * seq_len : (row + 1) * seq_len].tolist()
            after = range(row * seq_len + 1, (row + 1) * seq_len)
            assert targets == [stream[n] if supervised[n] else IGNORE_INDEX for n in after] + [IGNORE_INDEX]
        seen.append((num_rows, len(stream) % seq_len, joined.num_targets))

    check()
    assert all(sum(column) > 200 for column in zip(*seen, strict=True))


def test_joined_rows_name_all_documents_in_them():
    documents, _ = build_documents([(2, 1), (3, 2), (1, 1)])  # 4, 6 and 3 tokens
    assert join_documents(documents, 4).ids == ["d0", "d1", "d1,d2"]
    assert join_documents(documents, 13).ids == ["d0,d1,d2"]
    assert join_documents(documents, 14).ids == []


def test_joining_no_documents_gives_no_rows():
    documents, _ = build_documents([(2, 1)])
    none = Documents(documents.input_ids[:0], documents.targets[:0], documents.offsets[:1], [])
    joined, rows = pack_documents(none, "joined", seq_len=4)
    assert (len(joined), rows, joined.num_targets) == (0, [], 0)


@pytest.mark.parametrize("supervise", ["target", "all"])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_joining_block_by_block_is_joining_at_once(smollm, monkeypatch, supervise, size):
    from revinst.data import encoding
    from revinst.data.prompt import load_template

    examples = load_examples("quickstart")[0][:60]
    arguments = (examples, load_template("blog"), smollm, 2048, supervise)
    whole = join_documents(encoding.encode_examples(*arguments), 100)
    monkeypatch.setattr(encoding, "BLOCK_EXAMPLES", size)
    parts = concatenate_documents(list(stage.join_documents(encoding.encode_blocks(*arguments), 100)))
    assert parts.input_ids.tolist() == whole.input_ids.tolist() and len(whole) > 50
    assert parts.targets.tolist() == whole.targets.tolist() and parts.ids == whole.ids
