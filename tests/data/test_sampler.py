"""The order of steps: the same whatever the ranks, another each epoch, and a run goes on where it was."""

import pytest

from revinst.data.sampler import StepSampler

ROWS_PER_STEP = 12


def build_sampler(num_rows=100, rows_per_step=ROWS_PER_STEP, seed=0, rank=0, world_size=1) -> StepSampler:
    sampler = StepSampler(num_rows, rows_per_step, seed)
    sampler.rank, sampler.world_size = rank, world_size
    return sampler


def real(step: list[int | None]) -> list[int]:
    return [row for row in step if row is not None]


@pytest.mark.parametrize("num_rows", [12, 96, 97, 100, 101, 107])
@pytest.mark.parametrize("world_size", [2, 3, 4, 5, 6, 7, 12])
def test_a_steps_rows_do_not_depend_on_the_ranks(num_rows, world_size):
    """Also where they do not divide a step's rows."""
    one = build_sampler(num_rows)
    ranks = [build_sampler(num_rows, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(sampler) for sampler in ranks} == {len(one)}
    positions = [epoch * num_rows + row for epoch in range(2) for row in range(0, num_rows, ROWS_PER_STEP)]
    for position in positions:
        rows = one.rows_at(position)
        shares = [sampler.rows_at(position) for sampler in ranks]
        assert sorted(row for share in shares for row in real(share)) == sorted(real(rows)) and len(rows) > 0
        assert len({len(share) for share in shares}) == 1  # the same number of micro-batches for all
        sizes = [len(real(share)) for share in shares]
        assert max(sizes) - min(sizes) <= 1


def test_each_epoch_is_another_permutation_of_all_rows():
    sampler = build_sampler(101)
    epochs = [[row for step in sampler for row in step] for _ in range(3)]
    assert all(sorted(epoch) == list(range(101)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3 and list(range(101)) not in epochs
    assert epochs[0] != [row for step in build_sampler(101, seed=1) for row in step]
    assert epochs[0] == [row for step in build_sampler(101) for row in step]


@pytest.mark.parametrize("num_rows", [96, 100])
def test_resuming_from_any_step_continues_the_sequence(num_rows):
    whole = build_sampler(num_rows)
    positions, sequence = [], []
    for _ in range(3):
        for step in whole:
            sequence.append(step)
            positions.append(whole.next_row)
    assert len(sequence) == 3 * len(whole) >= 24 and positions[-1] == 3 * num_rows
    for number, position in enumerate(positions[:-1]):
        resumed = build_sampler(num_rows)
        resumed.next_row = position
        epochs = 3 - position // num_rows
        assert [step for _ in range(epochs) for step in resumed] == sequence[number + 1 :]


@pytest.mark.parametrize("world_size", [2, 3])
def test_going_on_with_more_ranks_skips_and_repeats_no_row(world_size):
    sampler = build_sampler(100)
    first = [row for _, step in zip(range(5), sampler, strict=False) for row in step]
    rest = []
    for rank in range(world_size):
        resumed = build_sampler(100, rank=rank, world_size=world_size)
        resumed.next_row = 5 * ROWS_PER_STEP
        rest += [row for step in resumed for row in real(step)]
    assert sorted(first + rest) == list(range(100)) and len(first) == 60
