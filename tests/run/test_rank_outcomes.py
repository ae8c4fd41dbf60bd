"""When one process fails and the others end of that, the first reason is the one that is told."""

import os
import signal

import pytest
from torch.distributed import DistNetworkError

from phi3v.errors import DivergedError, UserError
from phi3v.run.outcome import Outcome
from phi3v.run.rank_outcomes import first_cause, is_consequence, tell

LOST = RuntimeError(
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer"
)


def fails(folder, rank, error, at):
    """What a process does that fails with an error at a time."""
    tell(folder, rank, Outcome.of_error(error), error)
    if (file := folder / f"outcome_rank_{rank}.json").exists():
        os.utime(file, (at, at))


def test_the_first_that_failed_is_the_cause(tmp_path) -> None:
    fails(tmp_path, "3", MemoryError("no more"), at=20)
    fails(tmp_path, "1", ArithmeticError("later"), at=30)
    assert first_cause(tmp_path, since=10) == Outcome(
        "out_of_memory", None, "rank 3: MemoryError: no more"
    )
    assert first_cause(tmp_path, since=25) == Outcome(
        "failed", None, "rank 1: ArithmeticError: later"
    )
    assert first_cause(tmp_path, since=40) is None


@pytest.mark.parametrize(
    "error", [LOST, DistNetworkError("lost"), SystemExit(143), KeyboardInterrupt()], ids=repr
)
def test_who_ends_because_another_did_is_no_cause(tmp_path, error) -> None:
    assert is_consequence(error)
    fails(tmp_path, "1", error, at=20)
    assert first_cause(tmp_path, since=10) is None


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), UserError("a"), DivergedError("b"), SystemExit(1)], ids=repr
)
def test_who_fails_by_itself_is_no_consequence(error) -> None:
    assert not is_consequence(error)


def test_who_was_interrupted_says_nothing(tmp_path) -> None:
    ended = SystemExit(128 + signal.SIGTERM)
    tell(tmp_path, "1", Outcome.of_error(ended), ended)
    assert not list(tmp_path.iterdir())
