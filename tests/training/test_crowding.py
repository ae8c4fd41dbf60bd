"""That other programs take the cores is told once, and only where threads wait for each other."""

import pytest
import torch

from phi3v.training import crowding


@pytest.fixture
def after(monkeypatch):
    """The hint after so many seconds with so many switches."""
    now, switches, threads = [100.0], [5000], [2]
    monkeypatch.setattr(crowding.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(crowding, "_switches", lambda: switches[0])
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    watched = crowding.Crowding()

    def hint(seconds, rate, several=2):
        watched.start()
        now[0] += seconds
        switches[0] += round(seconds * rate)
        threads[0] = several
        return watched.hint()

    return hint


def test_threads_that_are_put_aside_are_told_once(after):
    assert "and 2 threads wait for each other: OMP_NUM_THREADS=1" in after(5, 150)
    assert after(5, 150) is None


@pytest.mark.parametrize(
    ("seconds", "rate", "threads"), [(5, 10, 2), (5, 150, 1), (0.5, 150, 2)],
    ids=["alone", "one thread", "too early"],
)  # fmt: skip
def test_otherwise_nothing_is_said(after, seconds, rate, threads):
    assert after(seconds, rate, threads) is None
    assert after(5, 150) is not None


def test_the_system_counts_what_is_put_aside():
    before = crowding._switches()
    assert isinstance(before, int)
    assert crowding._switches() >= before
