"""A training in trouble: ranks with another setting, one that hangs, a disk that is full."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from .conftest import ROOT, SMALL, assert_nobody_left, inherited, read_until, warm
from .test_resume import WEIGHTS

pytestmark = pytest.mark.slow

DDP = (
    *(word for word in SMALL if word != "data.batch_size=8"),
    "trainer.strategy=ddp",
    "trainer.devices=2",
)
WATCHED = ("callbacks.stall.seconds=2", "trainer.max_epochs=500")


def test_ranks_with_another_setting_all_say_so_before_the_first_step(program) -> None:
    # Which Lightning sets for the processes that it starts.
    done = program("train.py", *DDP, "seed='${oc.decode:${oc.env:LOCAL_RANK,5}}'")
    assert done.status == 2
    message = "error: the ranks are not the same training: seed is 5 on rank 0 and 1 on rank 1"
    assert done.err.count(message) == 2
    assert "step 1/" not in done.out


def test_ranks_that_diverge_tell_the_examples_of_all_and_keep_the_state(program, workplace) -> None:
    words = ("optimizer.lr=1e30", "trainer.gradient_clip_val=null", "hydra.run.dir=together")
    done = program("train.py", *DDP, *words)
    assert done.status == 2
    run = workplace / "together"
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    line = next(one for one in done.err.splitlines() if one.startswith("error: step "))
    assert line.startswith(f"error: step {last['global_step'] + 1}: the ")
    train = json.loads((run / "splits.json").read_text())["train"]
    assert sum(name in line for name in train) == 8  # four of each
    assert json.loads((run / "outcome.json").read_text())["status"] == "diverged"
    assert "Traceback" not in done.err


def wait_for(process, text: str) -> None:
    until = time.monotonic() + 60
    while text not in process.read_so_far():
        assert time.monotonic() < until, process.read_so_far()
        time.sleep(0.05)


def test_all_ranks_say_where_they_wait_for_one_that_hangs(cache, tmp_path) -> None:
    words = (str(ROOT / "train.py"), *DDP, *WATCHED)
    with warm(*words, cwd=tmp_path, env={"PHI3V_CACHE": str(cache)}) as process:
        read_until(process, "step 1/")
        (other,) = psutil.Process(process.pid).children()
        other.suspend()
        wait_for(process, "rank 0: nothing done for ")
        assert re.search(r"rank 0: nothing .+ step \d+.* \(.+:\d+\)\n", process.read_so_far())
        other.resume()
        wait_for(process, "rank 1: nothing done for ")  # which the clock tells it afterwards
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err


FAILS_WHILE_THE_OTHER_SLEEPS = """
import os, sys, time

from phi3v.training import FineTuning

BEGIN = FineTuning.on_train_start


def begin(self):
    BEGIN(self)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        raise ArithmeticError("the first is ill")
    time.sleep(600)


FineTuning.on_train_start = begin
"""


TOLD_IN_VALIDATION = """
import os, signal

from phi3v.training import FineTuning

STEP = FineTuning.validation_step


def step(self, *arguments):
    os.kill(os.getpid(), signal.SIGNAL)
    return STEP(self, *arguments)


FineTuning.validation_step = step
"""


def with_fault(folder: Path, fault: str) -> str:
    """A train.py that runs some code before it trains."""
    (folder / "conf").symlink_to(ROOT / "conf")
    program, mark = (ROOT / "train.py").read_text(), "    from phi3v.run import jobs"
    assert mark in program
    (folder / "fault.py").write_text(fault)
    (folder / "train.py").write_text(program.replace(mark, f"    import fault\n\n{mark}"))
    return str(folder / "train.py")


def test_the_first_rank_that_fails_leaves_none_behind(cache, tmp_path) -> None:
    words = (with_fault(tmp_path, FAILS_WHILE_THE_OTHER_SLEEPS), *DDP)
    with warm(*words, cwd=tmp_path, env={"PHI3V_CACHE": str(cache)}) as process:
        _, err = process.communicate(timeout=60)
        assert_nobody_left(process.pid)
    assert process.returncode == 1
    assert "ArithmeticError: the first is ill" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_in_the_validation_behind_a_short_training_ends_it(
    cache, tmp_path, number: signal.Signals
) -> None:
    fault = TOLD_IN_VALIDATION.replace("SIGNAL", number.name)
    words = (with_fault(tmp_path, fault), *SMALL, "trainer.max_steps=1")
    with warm(*words, cwd=tmp_path, env={"PHI3V_CACHE": str(cache)}, spares=()) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "interrupted" in err


def test_a_loader_that_hangs_is_told(cache, tmp_path) -> None:
    words = (str(ROOT / "train.py"), *SMALL, *WATCHED, "data.num_workers=1")
    with warm(*words, cwd=tmp_path, env={"PHI3V_CACHE": str(cache)}, spares=()) as process:
        read_until(process, "step 1/")
        workers = psutil.Process(process.pid).children()
        assert workers
        for worker in workers:
            worker.suspend()
        wait_for(process, "before the next batch")
        assert "rank 0: nothing done for " in process.read_so_far()
        for worker in workers:
            worker.resume()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err


FULL_DISK = """
mount -t tmpfs -o size=3m tmpfs disk
"$@" hydra.run.dir=disk/run
echo "status $?, left: $(ls disk/run/checkpoints | xargs)"
mount -o remount,size=100m disk
"$@" hydra.run.dir=disk/run resume=true
echo "status $?"
cp -r disk/run kept
"""


def test_a_disk_that_is_full_loses_nothing_and_it_goes_on_when_there_is_space(
    small, cache, tmp_path
) -> None:
    """A file system of its own, too small for a second checkpoint beside the first."""
    (tmp_path / "disk").mkdir()
    apart = ("unshare", "--user", "--map-root-user", "--mount", "bash", "-c")
    if subprocess.run([*apart, "mount -t tmpfs tmpfs disk"], cwd=tmp_path, check=False).returncode:
        pytest.skip("this system lets nobody mount; test_killed_checkpoints limits files instead")
    train = (sys.executable, str(ROOT / "train.py"), *SMALL, "callbacks.last.steps=1")
    done = subprocess.run(
        [*apart, FULL_DISK, "bash", *train],
        cwd=tmp_path, env={**inherited(), "PHI3V_CACHE": str(cache)},
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert "status 2, left: last.ckpt previous.ckpt\n" in done.stdout, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "last.ckpt: the checkpoint cannot be written" in line
    assert "make space, then go on with resume=true" in line
    assert "Traceback" not in done.stderr
    assert "going on after step 1" in done.stdout
    assert done.stdout.endswith("status 0\n"), done.stderr
    for file in (WEIGHTS, "metrics.json"):
        assert (tmp_path / "kept" / file).read_bytes() == (small.run / file).read_bytes()
