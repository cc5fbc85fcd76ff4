"""What takes as long as there is data is done once a run or once an epoch: not at a step, a sample, a checkpoint."""

import functools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from revinst.config.settings import DataSettings
from revinst.data import datamodule, split, summary
from revinst.data.datamodule import InstructionDataModule
from revinst.data.encoding import Documents
from revinst.data.sampler import StepSampler
from revinst.planning import plan
from tests.commands.test_run import fit
from tests.cpu_time import seconds


@pytest.fixture
def calls(monkeypatch) -> Counter[str]:
    """How often something was called that looks at all rows."""
    counts: Counter[str] = Counter()

    def watch(owner: object, name: str) -> None:
        work = getattr(owner, name)

        @functools.wraps(work)
        def counted(*args, **kwargs):
            counts[name] += 1
            return work(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    watch(datamodule, "select_examples")
    watch(datamodule, "hash_packed_rows")
    watch(np.random, "default_rng")
    of_split = split.Split.hash.fget

    def hash_split(self: split.Split) -> str:
        counts["hash of the split"] += 1
        return of_split(self)

    monkeypatch.setattr(split.Split, "hash", property(hash_split))
    return counts


def test_an_epoch_is_permuted_once(calls):
    sampler = StepSampler(1000, 8, seed=3)
    epochs = [[row for step in sampler for row in step] for _ in range(3)]
    assert calls["default_rng"] == 3 and all(sorted(epoch) == list(range(1000)) for epoch in epochs)
    assert epochs[0] != epochs[1] and sampler.next_row == 3000
    again = StepSampler(1000, 8, seed=3)
    again.next_row = 1504
    assert [row for step in again for row in step] == epochs[1][504:] and calls["default_rng"] == 4
    fresh = StepSampler(1000, 8, seed=3)
    assert fresh.rows_at(1504) == epochs[1][504:512] and fresh.rows_at(8) == epochs[0][8:16], "also out of turn"


@pytest.mark.wide
def test_a_run_looks_at_all_rows_as_often_whatever_its_length(tiny_llama, tmp_path, calls):
    """Two steps, and eight with samples and a checkpoint at each: the same but for epochs that were begun."""
    found = []
    for steps in (2, 8):
        calls.clear()
        options = {"trainer.max_steps": steps, "samples.every_steps": 1, "checkpoint.every_steps": 1}
        assert fit(Path(tmp_path), f"run-{steps}", tiny_llama, **options) == 0
        found.append(Counter(calls))
    assert found[0] == found[1]
    assert found[0]["hash_packed_rows"] == 2, "of the training and of the validation rows"
    assert found[0]["hash of the split"] <= 3 and found[0]["select_examples"] <= 5


def test_documents_are_counted_once():
    targets = np.array([-100, 1, 2, -100, 4, 5])
    documents = Documents(np.arange(6, dtype=np.int32), targets, np.array([0, 2, 6]), ["a", "b"])
    assert documents.lengths is documents.lengths and documents.lengths.tolist() == [2, 4]
    assert documents.num_targets == 4
    documents.targets = None  # type: ignore[assignment]
    assert documents.num_targets == 4


def test_rows_are_summed_in_the_time_of_their_number():
    """200,000 rows, as `plan` and `inspect` sum them: to take the lengths of all for each would last for a minute."""
    count = 200_000
    data = InstructionDataModule(DataSettings(), "nothing")
    ids = np.zeros(3 * count, np.int32)
    data.train_documents = Documents(ids, ids, np.arange(count + 1, dtype=np.int64) * 3, [])
    data.train_rows = [[number] for number in range(count)]

    def work() -> None:
        assert data.epoch_tokens == 3 * count
        assert [data.fullest(size) for size in range(1, 200)][-1] == (597, 597, 199 * 9)

    assert seconds(work) < 5
    sources = [Path(module.__file__).read_text() for module in (plan, summary)]
    assert all("data.epoch_tokens" in source and ".lengths[" not in source for source in sources)
