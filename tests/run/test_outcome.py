"""What an outcome makes of an error: a signal, a program that left by itself, or a failure."""

import pytest

from phi3v.run.outcome import Outcome, exit_status


class SIGTERMException(SystemExit):
    """Lightning has one of this name."""


def interrupted() -> SystemExit:
    """What Lightning makes of Ctrl-C."""
    ended = SystemExit(1)
    ended.__context__ = KeyboardInterrupt()
    return ended


@pytest.mark.parametrize(
    ("error", "status", "reason", "code"),
    [
        (KeyboardInterrupt(), "interrupted", "ended by SIGINT", 130),
        (interrupted(), "interrupted", "ended by SIGINT", 130),
        (SystemExit(143), "interrupted", "ended by SIGTERM", 143),
        (SIGTERMException(), "interrupted", "ended by SIGTERM", 143),
        (SystemExit(1), "failed", "the program ended with status 1", 1),
        (SystemExit(255), "failed", "the program ended with status 255", 255),
        (SystemExit(128), "failed", "the program ended with status 128", 128),
        (SystemExit(0), "failed", "the program ended with status 1", 1),
        (SystemExit(), "failed", "the program ended with status 1", 1),
        (SystemExit("no\nmore"), "failed", "the program ended with status 1: no more", 1),
    ],
    ids=repr,
)
def test_an_exit_is_a_signal_or_a_failure(
    error: KeyboardInterrupt | SystemExit, status: str, reason: str, code: int
) -> None:
    assert Outcome.of_error(error) == Outcome(status, None, reason)
    assert exit_status(error) == code
