"""A sweep whose own program is killed, whenever that is: nothing is lost, nothing done twice."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Start, jobs_of

COMMAND = ("-m", "adapter.r=4,8,16", "sweep_dir=mine")
# The first job takes its time before anybody could tell that it is there, as imports do.
IMPORTS = """
import sys, time

if "hydra.mode=RUN" in sys.argv:
    print("a job", file=open(STARTED, "a"))
    time.sleep(3 if sys.argv[-1].endswith("/0'") else 0)
"""


@pytest.mark.slow
def test_a_sweep_that_is_killed_at_any_moment_loses_and_repeats_nothing(
    start: Start, home: Path, here: Path, tmp_path: Path, begins_with: Callable[..., None]
) -> None:
    started, done = tmp_path / "started.txt", tmp_path / "done.txt"
    begins_with(
        "import time",
        "time.sleep(0.3)",
        f"Path({str(done)!r}).open('a').write(f'{{cfg.adapter.r}}\\n')",
    )
    program = home / "train.py"
    program.write_text(IMPORTS.replace("STARTED", repr(str(started))) + program.read_text())
    moments = random.Random(7)
    # When its first job has just begun, when it has found that job, and at any other moment.
    for moment in (0, 4, *(moments.uniform(0, 4) for _ in range(2))):
        with subprocess.Popen(
            [sys.executable, str(program), *COMMAND], cwd=here,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            while not started.exists():
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(moment)
            process.kill()  # it alone: its job lives on
    last = start(*COMMAND)
    assert last.returncode == 0, last.stderr
    assert [job["status"] for job in jobs_of(here / "mine")] == ["ok"] * 3
    assert sorted(map(int, done.read_text().split())) == [4, 8, 16]
    assert started.read_text() == "a job\n" * 3
