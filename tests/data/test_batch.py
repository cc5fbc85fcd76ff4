"""Tensors of a step."""

import numpy as np
import pytest
import torch

from revinst.data.batch import StepBatch, collate_rows
from revinst.data.encoding import IGNORE_INDEX, Documents

#            document a  document b  document c
INPUT_IDS = [10, 11, 12, 20, 21, 30, 31, 32, 33]
TARGETS = [-100, 12, 2, 21, 2, -100, -100, 33, 2]


@pytest.fixture
def documents() -> Documents:
    arrays = (np.array(values, dtype=np.int32) for values in (INPUT_IDS, TARGETS))
    return Documents(*arrays, offsets=np.array([0, 3, 5, 9]), ids=["a", "b", "c"])


def test_the_docstrings_example(documents):
    batch = collate_rows(documents, [[0, 1]])
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, 21]]
    assert batch.targets.tolist() == [[IGNORE_INDEX, 12, 2, 21, 2]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert batch.cu_seqlens.tolist() == [0, 3, 5]
    assert batch.target_index.tolist() == [1, 2, 3, 4]
    assert (batch.seq_lens, batch.max_seqlen, batch.ids) == ([3, 2], 3, ["a", "b"])
    assert (batch.num_tokens, batch.num_targets) == (5, 4)


def test_rows_of_a_micro_batch_are_laid_end_to_end(documents):
    batch = collate_rows(documents, [[2], [1, 0]])
    assert batch.input_ids.tolist() == [[30, 31, 32, 33, 20, 21, 10, 11, 12]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 0, 1, 2]]
    assert batch.cu_seqlens.tolist() == [0, 4, 6, 9] and batch.ids == ["c", "b", "a"]
    assert batch.targets[0, batch.target_index].tolist() == [33, 2, 21, 2, 12, 2]
    kinds = [batch.input_ids.dtype, batch.targets.dtype, batch.position_ids.dtype, batch.target_index.dtype]
    assert kinds == [torch.int64] * 4 and batch.cu_seqlens.dtype == torch.int32


def test_an_unsupervised_micro_batch_has_no_targets_and_leaves_the_documents_alone(documents):
    batch = collate_rows(documents, [[0, 1]], supervised=False)
    assert batch.targets.tolist() == [[IGNORE_INDEX] * 5]
    assert (batch.num_targets, batch.target_index.tolist(), batch.num_tokens) == (0, [], 0)
    assert documents.targets.tolist() == TARGETS


def test_batches_share_no_memory_with_the_documents(documents):
    batch = collate_rows(documents, [[0]])
    batch.input_ids.zero_()
    batch.targets.zero_()
    assert documents.input_ids.tolist() == INPUT_IDS and documents.targets.tolist() == TARGETS


def test_a_step_sums_its_rows(documents):
    step = StepBatch([collate_rows(documents, [[0, 1]]), collate_rows(documents, [[2]], supervised=False)])
    assert (step.num_targets, step.num_tokens, step.ids) == (4, 5, ["a", "b"])


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_rows_joined_later_are_rows_joined_at_once(documents, size):
    rows = [[2], [1, 0], [0], [1]]
    step = StepBatch([collate_rows(documents, [row]) for row in rows])
    joined = step.micro_batches(size)
    expected = [collate_rows(documents, rows[start : start + size]) for start in range(0, 4, size)]
    for got, other in zip(joined, expected, strict=True):
        for name in got.__slots__:
            a, b = getattr(got, name), getattr(other, name)
            assert (a.tolist(), a.dtype) == (b.tolist(), b.dtype) if isinstance(a, torch.Tensor) else a == b


def test_a_filler_is_computed_only_where_nothing_else_is(documents):
    real, filler = collate_rows(documents, [[0]]), collate_rows(documents, [[1]], supervised=False)
    step = StepBatch([real, filler, filler])
    assert [batch.ids for batch in step.micro_batches(2)] == [["a"], []]
    assert [batch.num_targets for batch in step.micro_batches(1)] == [2, 0, 0]
    assert [batch.input_ids.tolist() for batch in step.micro_batches(3)] == [[[10, 11, 12]]]


def test_every_tensor_moves(documents):
    step = StepBatch([collate_rows(documents, [[0, 1]]), collate_rows(documents, [[2]])])
    moved = step.to("meta", non_blocking=True)
    assert len(moved.rows) == 2
    for before, after in zip(step.rows, moved.rows, strict=True):
        values = {name: getattr(after, name) for name in after.__slots__}
        tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
        assert len(tensors) == 5 and all(tensor.is_meta for tensor in tensors.values())
        assert (after.seq_lens, after.ids, after.num_targets) == (before.seq_lens, before.ids, before.num_targets)
        assert before.input_ids.device.type == "cpu"
