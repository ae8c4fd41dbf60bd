"""The same steps, losses and weights, however many micro-batches share a step; and mid-epoch."""

import csv
import os
import signal
from contextlib import nullcontext

import pytest
import torch
from left_behind import rows_of, steps_in
from lightning.pytorch import Callback
from spoiler import Spoiler

from phi3v.adapter import LoraAdapter, trained_state
from phi3v.errors import UserError
from phi3v.optim import Cosine
from phi3v.training import Interruption, LastCheckpoint, StepMetrics
from phi3v.training.non_finite import NonFiniteStep


class Killed(Exception):
    """What ends a training before its time."""


class SaveAndKill(Callback):
    """Saves after a step in the middle of an epoch, then ends the training."""

    def __init__(self, step, path):
        self.step = step
        self.path = path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise Killed


@pytest.fixture
def run(base, make_module, make_data, make_trainer, tmp_path):
    """Trains three epochs on 17 examples in steps of up to 6; losses by step and final weights."""

    def train(
        name, batch_size=6, accumulate=1, dropout=0.0, workers=0, stop=None, resume=None,
        keep=None, ends=Killed, **settings,
    ):  # fmt: skip
        torch.manual_seed(1)
        adapter = LoraAdapter(r=4, alpha=8, dropout=dropout, scope=["decoder", "projector"])
        module = make_module(adapter.attach(base), schedule=Cosine())
        data = make_data(count=26, batch_size=batch_size)
        data.num_workers = workers
        trainer = make_trainer(
            3, [one for one in (stop, Interruption(), keep) if one], [StepMetrics(tmp_path / name)],
            accumulate_grad_batches=accumulate, gradient_clip_val=1.0, **settings,
        )  # fmt: skip
        with pytest.raises(ends) if stop and ends else nullcontext() as caught:
            trainer.fit(module, data, ckpt_path=resume)
        train.caught = caught
        with (tmp_path / name / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["train/loss"]]
        weights = {n: t.clone() for n, t in trained_state(module.model).items()}
        module.model.unload()
        return [(row["step"], row["epoch"], row["train/loss"]) for row in rows], weights

    return train


@pytest.mark.parametrize(("batch_size", "accumulate"), [(3, 2), (2, 3), (1, 6)])
def test_micro_batches_take_the_steps_of_the_whole_batch(run, batch_size, accumulate):
    steps, weights = run("whole")
    assert [step for step, _, _ in steps] == [str(number) for number in range(1, 10)]
    shared, shared_weights = run("shared", batch_size, accumulate)
    assert [row[:2] for row in shared] == [row[:2] for row in steps]
    for (_, _, loss), (_, _, other) in zip(steps, shared, strict=True):
        assert float(other) == pytest.approx(float(loss), abs=1e-5)
    for name, tensor in weights.items():
        torch.testing.assert_close(shared_weights[name], tensor, atol=1e-5, rtol=0)


@pytest.mark.parametrize("step", [3, 4, 5])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_goes_on_from_any_step_as_if_never_stopped(run, tmp_path, step, workers):
    steps, weights = run("whole", dropout=0.2)
    checkpoint = tmp_path / "some.ckpt"
    first, _ = run("first", dropout=0.2, workers=workers, stop=SaveAndKill(step, checkpoint))
    rest, rest_weights = run("rest", dropout=0.2, workers=workers, resume=checkpoint)
    assert len(first) in (step - 1, step)  # the step that was stopped may not have been logged
    assert first[: step - 1] + rest[-(9 - step) :] == steps[: step - 1] + steps[step:]
    assert all(torch.equal(rest_weights[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("step", [2, 3, 4])
def test_with_other_portions_it_goes_on_from_any_step_too(run, tmp_path, step):
    checkpoint = tmp_path / "some.ckpt"
    run("first", stop=SaveAndKill(step, checkpoint))
    steps, weights = run("whole")
    rest, rest_weights = run("rest", 3, 2, resume=checkpoint)
    assert [row[:2] for row in rest] == [row[:2] for row in steps[step:]]
    for name, tensor in weights.items():
        torch.testing.assert_close(rest_weights[name], tensor, atol=1e-5, rtol=0)


def test_whole_numbers_of_batches_that_would_be_other_steps_are_refused(run, tmp_path):
    checkpoint = tmp_path / "some.ckpt"
    run("first", limit_train_batches=2, stop=SaveAndKill(2, checkpoint))
    steps, weights = run("whole", limit_train_batches=2)
    rest, rest_weights = run("rest", 3, 2, limit_train_batches=4, resume=checkpoint)
    assert [row[:2] for row in rest] == [row[:2] for row in steps[2:]]
    for name, tensor in weights.items():
        torch.testing.assert_close(rest_weights[name], tensor, atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="with 2 steps an epoch"):
        run("other", 3, 2, limit_train_batches=2, resume=checkpoint)


class LeftOut(Callback):
    """Says that steps were left out, or how many the training knows of."""

    def __init__(self, number=None):
        self.number = number

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.number is None:
            self.number = pl_module.non_finite.skipped
        pl_module.non_finite.skipped = self.number


def test_steps_that_were_left_out_stay_counted(run, tmp_path):
    checkpoint = tmp_path / "some.ckpt"
    run("first", stop=SaveAndKill(2, checkpoint), keep=LeftOut(3))
    seen = LeftOut()
    run("rest", resume=checkpoint, keep=seen)
    assert seen.number == 3


class Signal(Callback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, step, number):
        self.step = step
        self.number = number

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)


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


@pytest.mark.parametrize(("batch_size", "accumulate"), [(6, 1), (3, 2)])
@pytest.mark.parametrize("step", [3, 4, 5])
def test_a_training_stopped_before_a_step_goes_on_with_that_step(
    run, tmp_path, step, batch_size, accumulate
):
    division = {"batch_size": batch_size, "accumulate": accumulate, "dropout": 0.2}
    steps, weights = run("whole", **division)
    first, _ = run(
        "first", **division, stop=Spoiler(step), keep=LastCheckpoint(tmp_path), ends=NonFiniteStep
    )
    assert first == steps[: step - 1]
    rest, rest_weights = run("rest", **division, resume=tmp_path / "last.ckpt")
    assert rest == steps[step - 1 :]
    assert all(torch.equal(rest_weights[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_a_training_that_is_killed_goes_on_from_what_was_saved_last(run, tmp_path, step):
    steps, weights = run("whole", dropout=0.2)

    class Kill(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            if trainer.global_step == step:
                raise Killed

    run("first", dropout=0.2, stop=Kill(), keep=LastCheckpoint(tmp_path, minutes=0))
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["global_step"] == step
    rest, rest_weights = run("rest", dropout=0.2, resume=tmp_path / "last.ckpt")
    assert rest[-(9 - step) :] == steps[step:]
    assert all(torch.equal(rest_weights[name], tensor) for name, tensor in weights.items())


def test_nothing_is_saved_between_a_step_and_its_validation(run, tmp_path):
    class Kill(Callback):
        def on_validation_start(self, trainer, pl_module):
            raise Killed

    run("first", stop=Kill(), keep=LastCheckpoint(tmp_path, minutes=0))
    # Lightning would go on behind the validation of the third step.
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2


def test_a_validation_within_the_epoch_is_not_lost(run, tmp_path):
    """Each step has one behind it; told to end in a step, the training does not wait for its."""
    settings = {"val_check_interval": 1, "dropout": 0.2}
    run("first", **settings, stop=Signal(2, signal.SIGTERM), keep=LastCheckpoint(tmp_path, 0),
        ends=SystemExit)  # fmt: skip
    steps, weights = run("whole", **settings)
    rest, rest_weights = run("rest", **settings, resume=tmp_path / "last.ckpt")
    assert rest == steps[1:]
    assert all(torch.equal(rest_weights[name], tensor) for name, tensor in weights.items())


def validated(folder):
    rows = rows_of(folder)
    return [(int(row["step"]), row["val/loss"]) for row in rows if row["val/loss"]]


# Three steps an epoch: the fourth is the first of the second one, the sixth its last.
@pytest.mark.parametrize(("batch_size", "accumulate"), [(6, 1), (3, 2)])
@pytest.mark.parametrize("step", [2, 4, 6, 8])
def test_a_validation_that_is_counted_over_the_epochs_is_not_lost(
    run, tmp_path, step, batch_size, accumulate
):
    class Kill(Callback):
        def on_validation_start(self, trainer, pl_module):
            if trainer.global_step == step:
                raise Killed

    settings = {
        "batch_size": batch_size, "accumulate": accumulate, "dropout": 0.2,
        "val_check_interval": 2 * accumulate, "check_val_every_n_epoch": None,
    }  # fmt: skip
    steps, weights = run("whole", **settings)
    run("first", **settings, stop=Kill(), keep=LastCheckpoint(tmp_path, minutes=0))
    assert steps_in(tmp_path)["last.ckpt"] == step - 1
    rest, rest_weights = run("rest", **settings, resume=tmp_path / "last.ckpt")
    assert rest == steps[step - 1 :]
    validations = validated(tmp_path / "whole")
    assert [number for number, _ in validations] == [2, 4, 6, 8]
    assert validated(tmp_path / "rest") == validations[step // 2 - 1 :]
    assert all(torch.equal(rest_weights[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_training_goes_on_with_other_micro_batches(run, tmp_path, step, before, now):
    steps, weights = run("whole")
    stop = {"stop": Signal(step, signal.SIGTERM), "keep": LastCheckpoint(tmp_path)}
    run("first", 6 // before, before, ends=SystemExit, **stop)
    rest, rest_weights = run("rest", 6 // now, now, resume=tmp_path / "last.ckpt")
    saved = step - (step == 3)
    assert [row[:2] for row in rest] == [row[:2] for row in steps[saved:]]
    for (_, _, loss), (_, _, other) in zip(steps[saved:], rest, strict=True):
        assert float(other) == pytest.approx(float(loss), abs=1e-5)
    for name, tensor in weights.items():
        torch.testing.assert_close(rest_weights[name], tensor, atol=1e-5, rtol=0)


def test_with_dropout_a_checkpoint_of_another_division_is_refused(run, tmp_path):
    run("first", dropout=0.1, keep=LastCheckpoint(tmp_path))
    with pytest.raises(UserError, match=r"1 micro-batches a step, this one has 1 and 2"):
        run("other", 3, 2, dropout=0.1, resume=tmp_path / "last.ckpt")
