"""A process that Lightning has started does not outlive the first one, however that ends."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

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
