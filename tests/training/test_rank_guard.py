"""Ranks that are not the same training are stopped; the group's size is Lightning's."""

import pytest

from phi3v.errors import UserError
from phi3v.training.callbacks.rank_guard import RankGuard, difference


def test_equal_ranks_pass_and_the_first_difference_is_named():
    same = {"optimizer.lr": "0.1", "seed": "7"}
    assert difference([same, dict(same), dict(same)]) is None
    message = difference([same, dict(same), {**same, "optimizer.lr": "0.2"}])
    assert message.endswith("optimizer.lr is 0.1 on rank 0 and 0.2 on rank 2")
    assert "adapter.r is nothing on rank 0" in difference([same, {**same, "adapter.r": "4"}])


def test_a_group_of_another_size_is_refused(make_module, make_data, make_trainer, monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    with pytest.raises(UserError, match="a group of 2 processes, the trainer one of 1"):
        RankGuard({}).on_fit_start(make_trainer(), make_module())
