"""Jobs that run at the same time: told to end, all of them end saved and nobody is left."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from .conftest import Start, jobs_of

COMMAND = (
    *("-m", "adapter.r=4,6,8", "sweep_dir=mine"),
    *("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
)
# Two jobs that have something to save, the first time that they run.
SAVES = """
import time

def save(number, frame):
    time.sleep(1)
    (run / 'saved').touch()
    raise SystemExit(128 + number)

if cfg.adapter.r in (4, 6) and not (run / 'waits').exists():
    signal.signal(signal.SIGINT, lambda number, frame: None)  # what counts is what it is told
    signal.signal(signal.SIGTERM, save)
    (run / 'waits').touch()
    time.sleep(60)
while cfg.adapter.r == 13 and not (run.parent / '0' / 'waits').exists():
    time.sleep(0.02)  # before it fails
"""


@pytest.fixture
def saves(begins_with: Callable[..., None]) -> None:
    begins_with(*SAVES.splitlines())


def until_two_wait(here: Path, process: subprocess.Popen[str]) -> None:
    while len(list(here.glob("mine/*/waits"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)


def living_jobs(here: Path) -> list[int]:
    pids = [json.loads(file.read_text())["pid"] for file in here.glob("mine/*/seen.json")]
    return [pid for pid in pids if psutil.pid_exists(pid)]


@pytest.mark.slow
@pytest.mark.usefixtures("saves")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_all_jobs_save_and_nothing_else_begins(
    start: Start, home: Path, here: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, str(home / "train.py"), *COMMAND], cwd=here, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        try:
            until_two_wait(here, process)
            if number == signal.SIGINT:
                os.killpg(process.pid, number)  # as a terminal does
            else:
                process.send_signal(number)  # to the sweep alone
            err = process.communicate(timeout=30)[1]
        finally:
            left = living_jobs(here)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert not left
    assert process.returncode == 128 + number, err
    assert "\ninterrupted; the same command goes on\nsweep: mine\n" in err
    assert len(list(here.glob("mine/*/saved"))) == 2
    statuses = [job["status"] for job in jobs_of(here / "mine")]
    assert statuses == ["interrupted", "interrupted", "waiting"]
    if number == signal.SIGINT:
        again = start(*COMMAND)
        assert again.returncode == 0, again.stderr
        assert [job["objective"] for job in jobs_of(here / "mine")] == [2.0, 3.0, 4.0]


@pytest.mark.slow
@pytest.mark.usefixtures("saves")
def test_fail_fast_lets_the_other_jobs_save(start: Start, here: Path) -> None:
    words = [word.replace("6,8", "13,8") for word in COMMAND]
    done = start(*words, "fail_fast=true")
    assert done.returncode == 1
    statuses = [job["status"] for job in jobs_of(here / "mine")]
    assert statuses == ["interrupted", "failed", "waiting"]
    assert (here / "mine" / "0" / "saved").exists()
    assert "error: 2 of 3 jobs failed, 1 did not run" in done.stderr
