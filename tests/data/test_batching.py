"""Every example comes exactly once an epoch, on ranks that all take equally many steps."""

import random

import pytest

from phi3v.data import LengthBatchSampler
from phi3v.errors import UserError

LENGTHS = random.Random(7).choices(range(300, 3000), k=1003)


def ranks(count, lengths=LENGTHS, epoch=0, **options) -> list[list[list[int]]]:
    samplers = [
        LengthBatchSampler(lengths, num_replicas=count, rank=rank, **options)
        for rank in range(count)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    assert all(len(list(sampler)) == len(sampler) for sampler in samplers)
    return [list(sampler) for sampler in samplers]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [40, 41, 47, 1003])
@pytest.mark.parametrize("shuffle", [True, False])
def test_everything_comes_exactly_once_over_all_ranks(count, rows, shuffle):
    batches = ranks(count, LENGTHS[:rows], batch_size=4, seed=1, shuffle=shuffle)

    assert len({len(own) for own in batches}) == 1
    sizes = [len(batch) for own in batches for batch in own]
    assert max(sizes) <= 4
    assert max(sizes) - min(sizes) <= 1
    assert sorted(index for own in batches for batch in own for index in batch) == list(range(rows))


def test_batches_hold_similar_lengths():
    batches = ranks(2, batch_size=8, seed=0)
    width = [max(LENGTHS[i] for i in b) - min(LENGTHS[i] for i in b) for o in batches for b in o]

    assert sum(width) / len(width) < 0.1 * (max(LENGTHS) - min(LENGTHS))


def test_ranks_that_step_together_have_similar_lengths():
    one, other = ranks(2, batch_size=8, seed=0)
    gaps = [
        abs(max(LENGTHS[i] for i in a) - max(LENGTHS[i] for i in b))
        for a, b in zip(one, other, strict=True)
    ]

    assert sum(gaps) / len(gaps) < 0.1 * (max(LENGTHS) - min(LENGTHS))


def test_the_order_depends_on_seed_and_epoch_only():
    first = ranks(1, batch_size=8, seed=0, epoch=2)

    assert ranks(1, batch_size=8, seed=0, epoch=2) == first
    assert ranks(1, batch_size=8, seed=0, epoch=3) != first
    assert ranks(1, batch_size=8, seed=1, epoch=2) != first
    (batches,) = first
    lengths = [LENGTHS[batch[0]] for batch in batches]
    assert lengths not in (sorted(lengths), sorted(lengths, reverse=True))


def test_without_shuffling_every_epoch_begins_with_the_longest():
    (batches,) = ranks(1, batch_size=8, shuffle=False, epoch=0)

    assert max(LENGTHS) in [LENGTHS[i] for i in batches[0]]
    assert ranks(1, batch_size=8, shuffle=False, epoch=1) == [batches]


def test_drop_last_gives_full_batches_only_and_drops_others_each_epoch():
    one = ranks(2, batch_size=8, drop_last=True, epoch=0)
    other = ranks(2, batch_size=8, drop_last=True, epoch=1)

    assert {len(batch) for own in one + other for batch in own} == {8}
    seen = [{i for own in some for batch in own for i in batch} for some in (one, other)]
    assert [len(some) for some in seen] == [1003 // 16 * 16] * 2
    assert seen[0] != seen[1]


def test_a_rank_without_an_example_of_its_own_gets_one_to_learn_nothing_from():
    batches = ranks(4, LENGTHS[:5], batch_size=1, seed=0)

    assert {len(own) for own in batches} == {2}
    given = [i for own in batches for batch in own for i in batch]
    assert sorted(i for i in given if i >= 0) == list(range(5))
    assert len([i for i in given if i < 0]) == 3
    assert {~i for i in given if i < 0} < set(range(5))


@pytest.mark.parametrize(
    ("rows", "drop_last"),
    [(1003, False), (1003, True), (1008, True), (17, False), (17, True), (3, False)],
)
@pytest.mark.parametrize(("replicas", "accumulate"), [(2, 1), (1, 2), (2, 2), (4, 4)])
def test_a_step_holds_the_same_examples_however_they_are_shared(
    rows, replicas, accumulate, drop_last
):
    options = {"seed": 3, "drop_last": drop_last}
    ((*steps,),) = ranks(1, LENGTHS[:rows], batch_size=16, **options)
    size = 16 // replicas // accumulate
    shared = ranks(replicas, LENGTHS[:rows], batch_size=size, accumulate=accumulate, **options)
    assert {len(own) for own in shared} == {len(steps) * accumulate}
    for number, step in enumerate(steps):
        micros = slice(number * accumulate, (number + 1) * accumulate)
        taken = [i for own in shared for batch in own[micros] for i in batch if i >= 0]
        assert sorted(taken) == sorted(step)


def test_a_pass_can_begin_in_its_middle_once():
    sampler = LengthBatchSampler(LENGTHS, batch_size=4, seed=2, accumulate=2)
    whole = list(sampler)
    sampler.skip(7)
    assert len(sampler) == len(whole)
    assert list(sampler) == whole[7:]
    assert list(sampler) == whole


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"lengths": [], "batch_size": 4}, "0 examples do not fill a batch of 4"),
        ({"lengths": [1] * 7, "batch_size": 8, "drop_last": True}, "7 examples do not fill"),
        ({"lengths": [1], "batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_batched_is_refused(options, expected):
    with pytest.raises(UserError, match=expected):
        LengthBatchSampler(**options)
