"""A run that is killed at random moments, again and again, ends with the bytes of one that was not.

Saved after every step, so that some of the moments lie within a checkpoint; a test of checkpoints
kills a training in the middle of one for certain.
"""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from left_behind import rows_of
from warm_start import warm_start

from .conftest import ROOT, SMALL, inherited, read_until, warm
from .test_ranks import FSDP
from .test_resume import WEIGHTS

pytestmark = pytest.mark.slow

MOMENTS = 20
WORDS = (
    *SMALL,
    "trainer.max_epochs=2",
    "adapter.dropout=0.1",
    "data.num_workers=2",
    "callbacks.last.steps=1",
)


def is_done(run: Path) -> bool:
    outcome = run / "outcome.json"
    return outcome.is_file() and json.loads(outcome.read_text())["status"] == "ok"


def losses(run: Path) -> list[tuple[str, str]]:
    """By step, as metrics.csv has them."""
    return [(row["step"], row["train/loss"]) for row in rows_of(run) if row["train/loss"]]


def assert_same(run: Path, whole: Path) -> None:
    for file in (WEIGHTS, "metrics.json"):
        assert (run / file).read_bytes() == (whole / file).read_bytes()
    assert losses(run) == losses(whole)


def test_killed_at_any_moment_it_ends_with_the_same_bytes(program, cache, tmp_path) -> None:
    """The command as SLURM would start it again, in one directory until it is done there."""
    env = {**inherited(), "PHI3V_CACHE": str(cache)}
    program("train.py", "--help")  # the first one of all would wait for the imports
    begun = time.monotonic()
    whole = program("train.py", *WORDS)
    seconds = time.monotonic() - begun
    assert whole.status == 0, whole.err[-3000:]

    def start(run: Path, limit: float) -> int | None:
        words = (*WORDS, f"hydra.run.dir={run}", "resume=true")
        status, _, err = warm_start(ROOT / "train.py", words, tmp_path, env, limit)
        assert status in (0, None), err[-3000:]
        return status

    moments, number, within = random.Random(11), 0, 0
    for _ in range(MOMENTS):
        run = tmp_path / str(number)
        start(run, moments.uniform(0.1, 1) * seconds)
        within += any((run / "checkpoints").glob("*.ckpt")) and not is_done(run)
        number += is_done(run)
    for each in range(number + 1):
        assert start(tmp_path / str(each), 300) == 0
        assert_same(tmp_path / str(each), whole.run)
    assert within >= MOMENTS // 3  # else nothing was shown


def test_two_processes_that_share_the_model_end_with_the_same_bytes(
    program, cache, tmp_path
) -> None:
    """Two that do not share it are told to end by SLURM: test_launchers."""
    mine = (word for word in WORDS if word != "data.batch_size=8")
    recipe = (*mine, *FSDP)
    whole = program("train.py", *recipe)
    assert whole.status == 0, whole.err[-3000:]
    words = (str(ROOT / "train.py"), *recipe, "hydra.run.dir=killed", "resume=true")
    with warm(*words, cwd=tmp_path, env={"PHI3V_CACHE": str(cache)}) as process:
        read_until(process, "step ")
        time.sleep(random.Random(12).uniform(0, 1))
        os.killpg(process.pid, signal.SIGKILL)
    run = tmp_path / "killed"
    assert not is_done(run)
    done = program("train.py", *recipe, f"hydra.run.dir={run}", "resume=true")
    assert done.status == 0, done.err[-3000:]
    assert "going on after step" in done.out
    assert_same(run, whole.run)
