"""A training that is told to end ends between two steps, saved, and goes on as if it had not."""

import os
import signal

import pytest
import torch
from lightning.pytorch import Callback

from phi3v.training import LastCheckpoint

from .conftest import Signal


class SignalInValidation(Callback):
    """Sends this process a signal in the validation behind a step."""

    def __init__(self, step):
        self.step = step

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("batch_size", "accumulate"), [(6, 1), (3, 2)])
@pytest.mark.parametrize("step", [3, 6])
def test_a_validation_is_not_waited_for_and_comes_again(
    run, tmp_path, step, batch_size, accumulate
):
    division = {"batch_size": batch_size, "accumulate": accumulate, "dropout": 0.2}
    steps, weights = run("whole", **division)
    run(
        "first", **division, stop=SignalInValidation(step), keep=LastCheckpoint(tmp_path),
        ends=SystemExit,
    )  # fmt: skip
    assert run.caught.value.code == 143
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == step - 1
    rest, rest_weights = run("rest", **division, resume=tmp_path / "last.ckpt")
    assert rest == steps[step - 1 :]
    assert all(torch.equal(rest_weights[name], tensor) for name, tensor in weights.items())


# The third step is the last of its epoch.
@pytest.mark.parametrize(("batch_size", "accumulate"), [(6, 1), (3, 2)])
@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_a_training_that_is_told_to_end_goes_on_as_if_never_stopped(
    run, tmp_path, step, batch_size, accumulate
):
    division = {"batch_size": batch_size, "accumulate": accumulate, "dropout": 0.2}
    steps, weights = run("whole", **division)
    first, _ = run(
        "first", **division, stop=Signal(step, signal.SIGTERM), keep=LastCheckpoint(tmp_path),
        ends=SystemExit,
    )  # fmt: skip
    assert run.caught.value.code == 143
    assert first == steps[:step]
    # The third step is followed by a validation, which is not waited for: both come again.
    saved = step - (step == 3)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == saved
    rest, rest_weights = run("rest", **division, resume=tmp_path / "last.ckpt")
    assert rest == steps[saved:]
    assert all(torch.equal(rest_weights[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_the_status_tells_the_signal_and_handlers_come_back(run, tmp_path, number):
    # A shell that started these tests in the background has Ctrl-C ignored.
    before = signal.signal(number, signal.default_int_handler)
    try:
        run("first", stop=Signal(2, number), keep=LastCheckpoint(tmp_path), ends=SystemExit)
        assert run.caught.value.code == 128 + number
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


class SignalsWhileSaving(Signal):
    """Sends a signal in a step, and others while that is saved."""

    def __init__(self, number, others):
        super().__init__(1, number)
        self.others = others

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        for number in self.others if trainer.global_step == 1 else ():
            os.kill(os.getpid(), number)


OTHERS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_further_signals_do_not_lose_what_is_being_saved(run, tmp_path, number):
    ended = []

    def end(number, frame):  # where the default would end these tests
        ended.append(number)

    before = {one: signal.signal(one, end) for one in OTHERS}
    # A shell that started these tests in the background has it ignored.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        stop, keep = SignalsWhileSaving(number, OTHERS), LastCheckpoint(tmp_path)
        run("first", stop=stop, keep=keep, ends=SystemExit)
        assert all(signal.getsignal(one) is end for one in OTHERS)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert not ended
    assert run.caught.value.code == 128 + number
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 1


def test_a_second_ctrl_c_does_not_wait_for_the_save(run, tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        stop = SignalsWhileSaving(signal.SIGINT, [signal.SIGINT])
        run("first", stop=stop, keep=LastCheckpoint(tmp_path), ends=KeyboardInterrupt)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_that_was_ignored_stays_ignored(run):
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        steps, _ = run("whole", stop=Signal(2, signal.SIGUSR1), ends=())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(steps) == 9
