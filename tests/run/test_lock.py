"""One program at a time on a run, and nothing stays locked behind a program that is gone."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from phi3v.errors import UserError
from phi3v.run.lock import only_program_on

FORK = multiprocessing.get_context("fork")


def hold(folder: Path, with_child: bool = False) -> None:
    """Holds the directory until somebody ends this process; a child of it lives on for a while."""
    with only_program_on(folder):
        if with_child:
            # As a data loader's worker does, which notices after seconds that it is alone.
            FORK.Process(target=time.sleep, args=(20,)).start()
        (folder / "held").touch()
        time.sleep(60)


@pytest.fixture
def held(tmp_path: Path) -> Callable[..., int]:
    """Starts a process that holds the directory."""
    processes = []

    def start(**options: bool) -> int:
        process = FORK.Process(target=_in_a_session, args=(tmp_path,), kwargs=options)
        process.start()
        processes.append(process)
        while not (tmp_path / "held").exists():
            assert process.is_alive()
            time.sleep(0.01)
        return process.pid or 0

    yield start
    for process in processes:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()


def _in_a_session(folder: Path, **options: bool) -> None:
    os.setsid()
    hold(folder, **options)


def test_a_second_program_is_told_who_is_at_work(held, tmp_path) -> None:
    process = held()
    with (
        pytest.raises(UserError, match=f"process {process} on .+ is at work on this run"),
        only_program_on(tmp_path, patience=0),
    ):
        pass


@pytest.mark.parametrize("with_child", [False, True])
def test_what_was_killed_holds_nothing(held, tmp_path, with_child) -> None:
    os.kill(held(with_child=with_child), signal.SIGKILL)
    with only_program_on(tmp_path, patience=1):
        pass


def test_it_waits_for_a_program_that_is_just_ending(held, tmp_path) -> None:
    process = held()
    FORK.Process(target=lambda: (time.sleep(0.3), os.kill(process, signal.SIGTERM))).start()
    with only_program_on(tmp_path, patience=10):
        pass


def test_one_program_after_the_other(tmp_path) -> None:
    for _ in range(2):
        with only_program_on(tmp_path, patience=0):
            pass
