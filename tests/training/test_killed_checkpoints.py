"""A training that dies while it saves, or whose disk is full, goes on as if it had not."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from left_behind import steps_in
from small_training import train, train_until_full, train_until_killed_in_a_checkpoint
from warm_start import FORKS

pytestmark = pytest.mark.slow


def run(target, *arguments) -> int | None:
    process = FORKS.Process(target=target, args=arguments)
    process.start()
    process.join(120)
    return process.exitcode


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted training: its seconds and its weights."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(train, folder) == 0  # also brings the server up
    folder = tmp_path_factory.mktemp("whole")
    begun = time.monotonic()
    assert run(train, folder) == 0
    return time.monotonic() - begun, torch.load(folder / "weights.pt")


def assert_same(folder: Path, weights) -> None:
    own = torch.load(folder / "weights.pt")
    assert own.keys() == weights.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in weights.items())


def test_a_full_disk_is_one_line_and_the_training_goes_on_when_there_is_space(whole, tmp_path):
    assert run(train_until_full, tmp_path) == 0
    assert "cannot be written" in (tmp_path / "error.txt").read_text()
    assert steps_in(tmp_path)["last.ckpt"] == 3
    assert not list(tmp_path.glob("*.part"))
    assert run(train, tmp_path) == 0
    assert_same(tmp_path, whole[1])


@pytest.mark.parametrize("number", [1, 2, 17])
def test_a_training_that_is_killed_within_a_checkpoint_goes_on_from_the_one_before(
    whole, tmp_path, number
):
    assert run(train_until_killed_in_a_checkpoint, tmp_path, number) == -signal.SIGKILL
    assert (tmp_path / "last.ckpt.part").is_file()
    assert bool(steps_in(tmp_path)) == (number > 1)
    assert run(train, tmp_path) == 0
    assert_same(tmp_path, whole[1])
    assert not list(tmp_path.glob("*.part"))


def test_a_training_that_is_killed_at_any_moment_ends_with_the_same_weights(whole, tmp_path):
    """Saved after every step, so that several of the moments lie within a checkpoint."""
    seconds, weights = whole
    moments = random.Random(5)
    unfinished = 0
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        process = FORKS.Process(target=train, args=(folder,))
        process.start()
        process.join(moments.uniform(0.2, 0.95) * seconds)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        unfinished += not (folder / "weights.pt").exists() and bool(list(folder.glob("*.ckpt")))
        assert run(train, folder) == 0
        assert_same(folder, weights)
    assert unfinished >= 3  # else nothing was shown
