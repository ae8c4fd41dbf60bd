"""The learning rate over the steps."""

import math

import pytest
import torch

from phi3v.errors import UserError
from phi3v.optim import Constant, Cosine, Linear


def rates(schedule, steps, lrs=(1.0,)):
    """The learning rates of the first group that the optimizer steps would use."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]
    optimizer = torch.optim.SGD(groups)
    scheduler = schedule.build(optimizer, steps)
    seen = []
    for _ in range(steps + 1):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return [row[0] for row in seen] if len(lrs) == 1 else seen


def test_warmup_rises_in_equal_steps_from_above_zero_to_the_full_rate():
    found = rates(Constant(warmup=4), 10)
    assert found[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_a_share_below_one_is_of_all_steps():
    assert rates(Constant(warmup=0.25), 16) == rates(Constant(warmup=4), 16)


def test_cosine_ends_at_the_ratio_and_is_half_way_in_the_middle():
    found = rates(Cosine(warmup=0, min_ratio=0.2), 8)
    assert found[0] == 1.0
    assert found[4] == pytest.approx(0.6)
    assert found[2] == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert found[8] == pytest.approx(0.2)


def test_each_cycle_of_a_cosine_starts_from_the_full_rate():
    twice, once = rates(Cosine(min_ratio=0.1, cycles=2), 16), rates(Cosine(min_ratio=0.1), 8)
    assert twice[:8] == pytest.approx(once[:8])
    assert twice[8:] == pytest.approx(once)


def test_linear_falls_in_equal_steps_after_the_warmup():
    found = rates(Linear(warmup=2, min_ratio=0.0), 6)
    assert found[2:] == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])


def test_constant_stays():
    assert rates(Constant(), 5) == [1.0] * 6


def test_groups_keep_their_proportion():
    for first, second in rates(Cosine(warmup=2), 7, lrs=(1.0, 0.01)):
        assert second == pytest.approx(first / 100)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rates(Cosine(warmup=-1), 5), "warmup=-1"),
        (lambda: rates(Cosine(warmup=2.5), 5), "warmup=2.5"),
        (lambda: rates(Cosine(warmup=5), 5), "only 5 steps"),
        (lambda: rates(Cosine(), 0), "at least one"),
        (lambda: Linear(min_ratio=1.5), "min_ratio=1.5"),
        (lambda: Cosine(min_ratio=-0.1), "min_ratio=-0.1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
