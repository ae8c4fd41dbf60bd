"""A process that Lightning has started does not outlive the first one, however that ends."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from phi3v.run import orphans

# The first process, which starts another one as Lightning does and then has nothing to do with it.
FIRST = """
import os, subprocess, sys, time

environment = {**os.environ, "LOCAL_RANK": "1"}
subprocess.Popen([sys.executable, *sys.argv[1:]], env=environment)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_rank_is_not_left_behind_when_the_first_one_is_killed(
    home: Path, here: Path, begins_with: Callable[..., None]
) -> None:
    begins_with("import time", "(run / 'pid').write_text(str(os.getpid()))", "time.sleep(60)")
    folder = here / "one"
    words = (str(home / "train.py"), "adapter.r=4", f"hydra.run.dir={folder}")
    environment = {name: value for name, value in os.environ.items() if name != "RANK"}
    with subprocess.Popen([sys.executable, "-c", FIRST, *words], env=environment) as first:
        try:
            while not (folder / "pid").exists() or not (folder / "pid").read_text():
                assert first.poll() is None
                time.sleep(0.02)
        finally:
            first.kill()
    other = psutil.Process(int((folder / "pid").read_text()))
    try:
        other.wait(10)
    finally:
        if other.is_running():
            other.kill()


# What Lightning has started, with no time to lose.
OTHER = """
import time
from phi3v.run import orphans

orphans.GRACE = 0
orphans.end_with_parent()
time.sleep(60)
"""


@contextlib.contextmanager
def started_by(process: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, orphans.STARTER: str(process)}
    with subprocess.Popen([sys.executable, "-c", OTHER], env=environment) as other:
        try:
            yield other
        finally:
            other.kill()


def test_one_whose_starter_was_gone_before_it_could_look_ends_as_well() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as starter:
        pass
    with started_by(starter.pid) as other:
        assert other.wait(30) == 1


def test_one_whose_starter_is_there_stays() -> None:
    with started_by(os.getpid()) as other, pytest.raises(subprocess.TimeoutExpired):
        other.wait(3)
